"""The committed model repository against the code: configs, declarations, manifests, files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from api.services import emotion, speaker_embedding, whisper
from api.tensors import ModelSpec, TensorSpec
from export import configs, manifest, publish
from export.types import ENSEMBLE_NAME, MODEL_NAMES, TARGETS, ModelName, Target

REPOSITORY = publish.COMMITTED_REPOSITORY
SPECS = {spec.name: spec for spec in (whisper.SPEC, emotion.SPEC, speaker_embedding.SPEC)}
RELEASES = sorted(path.parent for path in REPOSITORY.glob("*/*/manifest.json"))
MANIFEST_KEYS = {
    *("model", "version", "checkpoint", "bundled", "source", "license", "created", "precision"),
    *("target", "opset", "options", "files", "parity", "tools"),
}


def parse(text: str) -> Any:
    """A config.pbtxt as Triton reads it: an unknown field or enum value is an error."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(fields: Any) -> set[tuple[str, str, tuple[int, ...]]]:
    return {
        (field.name, model_config_pb2.DataType.Name(field.data_type), tuple(field.dims))
        for field in fields
    }


def declared(specs: tuple[TensorSpec, ...]) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(spec.name, f"TYPE_{spec.datatype}", spec.dims) for spec in specs}


@pytest.mark.parametrize("model", configs.ALL_MODELS)
def test_committed_config_is_the_rendered_one(model: str) -> None:
    committed = (REPOSITORY / model / configs.FILENAME).read_text()

    assert committed == configs.render(
        model, "embedded"
    ), "run: python -m export render --target embedded --repository model_repository"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", configs.ALL_MODELS)
def test_every_rendered_config_is_valid_for_triton(model: str, target: Target) -> None:
    config = parse(configs.render(model, target))

    assert config.name == model
    assert config.max_batch_size > 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_tensors_are_those_that_the_api_declares(spec: ModelSpec, target: Target) -> None:
    config = parse(configs.render(spec.name, target))

    assert tensors(config.input) == declared(spec.inputs)
    assert tensors(config.output) == declared(spec.outputs)


@pytest.mark.parametrize("target", TARGETS)
def test_whisper_takes_clips_of_different_length_in_one_batch(target: Target) -> None:
    inputs = {field.name: field for field in parse(configs.render("whisper", target)).input}

    assert inputs[whisper.AUDIO.name].allow_ragged_batch


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_requests_are_merged_and_the_newest_version_serves(model: str, target: Target) -> None:
    config = parse(configs.render(model, target))

    assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 10_000
    assert config.version_policy.latest.num_versions == 1


def test_ensemble_gives_every_step_all_its_inputs_in_the_types_it_wants() -> None:
    ensemble = parse(configs.render(ENSEMBLE_NAME, "embedded"))
    outside = {name: (kind, dims) for name, kind, dims in tensors(ensemble.input)}
    answers = {name: (kind, dims) for name, kind, dims in tensors(ensemble.output)}

    assert {step.model_name for step in ensemble.ensemble_scheduling.step} == SPECS.keys()
    for step in ensemble.ensemble_scheduling.step:
        spec = SPECS[step.model_name]
        inputs = {(name, *outside[source]) for name, source in dict(step.input_map).items()}
        outputs = {(name, *answers[target]) for name, target in dict(step.output_map).items()}
        assert inputs == declared(spec.inputs)
        assert outputs == declared(spec.outputs)


def test_ensemble_has_the_empty_version_that_triton_wants() -> None:
    """Git keeps no empty folder: without a placeholder a fresh checkout has no version."""
    assert (REPOSITORY / ENSEMBLE_NAME / "1" / ".gitkeep").is_file()


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_a_bundled_release_is_committed(model: ModelName) -> None:
    version = publish.versions(REPOSITORY, model)
    content = manifest.read(REPOSITORY / model / "1")

    assert version == [1]
    assert (content["model"], content["version"], content["bundled"]) == (model, "1", True)
    assert content["checkpoint"] == "bundled"


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_committed_files_are_the_released_ones(release: Path) -> None:
    assert (
        manifest.differences(release) == []
    ), f"after a change of the model's own code: python -m export manifest {release}"


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_manifests_are_complete_and_name_no_place_of_the_machine_they_came_from(
    release: Path,
) -> None:
    content = manifest.read(release)

    assert content.keys() >= MANIFEST_KEYS
    assert content["license"] != "unknown"
    assert content["parity"] and content["files"]
    assert not re.search(
        r"(?<![\w.])/(home|root|work|tmp|Users)/", (release / manifest.FILENAME).read_text()
    )


@pytest.mark.parametrize("spec", [emotion.SPEC, speaker_embedding.SPEC], ids=lambda spec: spec.name)
def test_leaf_graphs_have_the_declared_tensors_of_any_batch_and_length(spec: ModelSpec) -> None:
    path = REPOSITORY / spec.name / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (audio,), (answer,) = session.get_inputs(), session.get_outputs()

    assert (audio.name, audio.type) == (spec.inputs[0].name, "tensor(float)")
    assert (answer.name, answer.type) == (spec.outputs[0].name, "tensor(float)")
    assert all(isinstance(size, str) for size in audio.shape), "a fixed batch or length"


def test_leaf_facts_fit_their_graphs() -> None:
    folder = REPOSITORY / "emotion" / "1"
    content = manifest.read(folder)

    assert (folder / "labels.txt").read_text().splitlines() == content["labels"]
    assert {"angry", "happy", "neutral", "sad"} <= set(content["labels"])
    assert content["window_s"] > 0
    assert manifest.read(REPOSITORY / "speaker_embedding" / "1")["window_s"] == 1.5


def test_graphs_hold_no_stack_traces_of_the_machine_that_exported_them() -> None:
    """torch's exporter writes the source file of every operation into the graph."""
    graphs = sorted(REPOSITORY.glob("*/*/*.onnx"))

    assert graphs
    for graph in graphs:
        assert b"site-packages" not in graph.read_bytes(), graph
