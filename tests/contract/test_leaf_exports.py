"""Exported emotion and speaker graphs against transformers and SpeechBrain, on what their own
parity checks don't see: batches, other lengths, silence, every family and precision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from benchmarks import leaf_weights
from export import emotion, onnx_graph, parity, publish, sources, speaker_embedding
from export.errors import CheckpointError
from export.onnx_metadata import drop_metadata
from export.quiet import quiet
from export.types import SAMPLE_RATE_HZ, Checkpoint, ExportOptions, ModelFacts, Precision
from tests import leaf_checkpoints

Clip = NDArray[np.float32]

STRICT = parity.TOLERANCES["fp32"]
COMMITTED = publish.COMMITTED_REPOSITORY

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "wav2vec2": leaf_checkpoints.save_wav2vec2,
    "wav2vec2-layer-norm": lambda folder: leaf_checkpoints.save_wav2vec2(folder, layer_norm=True),
    "hubert": leaf_checkpoints.save_hubert,
    "wavlm": leaf_checkpoints.save_wavlm,
}


EXPORTERS = {name: emotion.export for name in FAMILIES} | {"ecapa": speaker_embedding.export}


@dataclass(frozen=True)
class Exported:
    """A small random checkpoint and what its exporter made of it."""

    checkpoint: Path
    folder: Path
    facts: ModelFacts

    @property
    def graph(self) -> Path:
        return self.folder / "model.onnx"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random checkpoints by family; the same weights in every run."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    saved = {name: save(folder / name) for name, save in FAMILIES.items()}
    ecapa = leaf_weights.write_speaker(
        folder / "ecapa", channels=(32, 32, 32, 32, 96), dimension=24
    )
    return saved | {"ecapa": ecapa}


@pytest.fixture(scope="module")
def export(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Exported]:
    """Exports a checkpoint by name, each precision once."""

    @cache
    def exported(name: str, precision: Precision = "fp32") -> Exported:
        folder = tmp_path_factory.mktemp(f"{name}-{precision}")
        options = ExportOptions(precision=precision, target="onnxruntime")
        facts = EXPORTERS[name](local(checkpoints[name]), options, folder)
        drop_metadata(folder / "model.onnx")  # as every release does: traces outweigh tiny weights
        return Exported(checkpoints[name], folder, facts)

    return exported


def windows(seconds: float) -> list[Clip]:
    """The sample clips, repeated or cut to one length, at different levels."""
    size = round(seconds * SAMPLE_RATE_HZ)
    clips = parity.sample_audio()
    return [np.resize(clip, size) * np.float32(0.2 + 0.1 * i) for i, clip in enumerate(clips)]


def local(folder: Path) -> Checkpoint:
    return Checkpoint(folder.name, folder, False, "unknown", f"local {folder.name}")


def classify(folder: Path, clips: list[Clip]) -> list[Clip]:
    """transformers' own logits over the checkpoint's temperature, one clip at a time."""
    with quiet():
        model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        return [
            model(**extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"))
            .logits[0]
            .numpy()
            / np.float32(getattr(model.config, "logit_temperature", 1.0))
            for clip in clips
        ]


@pytest.mark.parametrize("family", FAMILIES)
def test_emotion_logits_are_those_of_transformers(
    export: Callable[..., Exported], family: str
) -> None:
    exported = export(family)

    for seconds in (0.4, 2.0, 3.3):
        clips = windows(seconds)
        expected = classify(exported.checkpoint, clips)
        parity.check(parity.compare(expected, onnx_graph.run(exported.graph, clips)), STRICT)
    assert (exported.folder / "labels.txt").read_text().split() == list(leaf_weights.LABELS)
    assert exported.facts.facts["labels"] == list(leaf_weights.LABELS)
    assert exported.facts.parity["clips"] == len(parity.sample_audio())


def test_embeddings_are_those_of_speechbrain_at_every_length(
    export: Callable[..., Exported],
) -> None:
    exported = export("ecapa")

    encoder = speaker_embedding.load(exported.checkpoint)
    for seconds in (0.5, 1.5, 4.0):
        clips = windows(seconds)
        expected = speaker_embedding.reference_embeddings(encoder, clips)
        parity.check(parity.compare(expected, onnx_graph.run(exported.graph, clips)), STRICT)
    assert exported.facts.facts == {"embedding_dim": 24, "window_s": 1.5}


@pytest.mark.parametrize(("name", "seconds"), [("wav2vec2", 2.0), ("wavlm", 2.0), ("ecapa", 1.5)])
def test_a_clip_has_the_same_answer_alone_and_among_others(
    export: Callable[..., Exported], name: str, seconds: float
) -> None:
    graph, clips = export(name).graph, windows(seconds)

    together = onnx_graph.run_batch(graph, np.stack(clips))

    for clip, among_others in zip(clips, together, strict=True):
        (alone,) = onnx_graph.run(graph, [clip])
        assert parity.compare([alone], [among_others]).min_cosine >= 0.9999


def test_bfloat16_costs_a_voice_nothing(tmp_path: Path) -> None:
    """Half of these recordings were made at 8 kHz: above 4 kHz they are empty, which is where a
    spectrum in bfloat16 holds nothing but what was rounded."""
    options = ExportOptions(precision="bf16")
    speaker_embedding.export(local(sources.BUNDLED_DIR / "speaker_embedding"), options, tmp_path)
    clips = windows(1.5)

    exact = onnx_graph.run(COMMITTED / "speaker_embedding" / "1" / "model.onnx", clips)
    coarse = onnx_graph.run(tmp_path / "model.onnx", clips, "bf16")

    assert parity.compare(exact, coarse).min_cosine >= 0.9999


@pytest.mark.parametrize("name", ["wav2vec2", "ecapa"])
def test_silence_gives_numbers(export: Callable[..., Exported], name: str) -> None:
    """No variance and empty spectra: unguarded, a division by zero and the logarithm of it."""
    (answer,) = onnx_graph.run(export(name).graph, [np.zeros(32000, dtype=np.float32)])

    assert np.isfinite(answer).all()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_coarser_emotion_graphs_are_valid_and_smaller(
    export: Callable[..., Exported], precision: Precision
) -> None:
    full, coarse = export("hubert"), export("hubert", precision)

    onnx_graph.validate(coarse.graph)
    assert coarse.graph.stat().st_size < 0.75 * full.graph.stat().st_size


def test_fp16_keeps_norms_and_pooling_in_fp32(export: Callable[..., Exported]) -> None:
    """In fp16 the pooling's floor of 1e-12 is zero, and squares pass the largest number."""
    ecapa = float32_nodes(export("ecapa", "fp16").graph)
    assert {"spectrogram/Conv", "filterbank/Log", "encoder.asp/Sqrt"} <= ecapa
    assert not any(name.startswith("encoder.blocks") for name in ecapa)

    hubert = float32_nodes(export("hubert", "fp16").graph)
    assert "/Sqrt" in hubert
    assert any(name.endswith("/LayerNormalization") for name in hubert)
    assert any(name.endswith("/InstanceNormalization") for name in hubert)
    assert not any(name.endswith("/MatMul") for name in hubert)


def test_a_text_model_is_refused_by_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'
    )

    with pytest.raises(CheckpointError, match="BertForSequenceClassification"):
        emotion.export(local(tmp_path), ExportOptions(), tmp_path)


def with_temperature(checkpoint: Path, temperature: object, folder: Path) -> Path:
    """A copy of a checkpoint, calibrated."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"logit_temperature": temperature}))
    return folder


def test_the_checkpoints_temperature_is_in_the_graph_and_in_the_manifest(
    export: Callable[..., Exported], tmp_path: Path
) -> None:
    plain, clips = export("hubert"), windows(2.0)
    folder = with_temperature(plain.checkpoint, 2.5, tmp_path / "calibrated")
    facts = emotion.export(local(folder), ExportOptions(), tmp_path)
    assert (plain.facts.facts["temperature"], facts.facts["temperature"]) == (1.0, 2.5)
    cooled = [logits / np.float32(2.5) for logits in onnx_graph.run(plain.graph, clips)]
    parity.check(parity.compare(cooled, onnx_graph.run(tmp_path / "model.onnx", clips)), STRICT)


@pytest.mark.parametrize("temperature", [0, -1, "warm"])
def test_a_temperature_that_is_none_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path, temperature: object
) -> None:
    folder = with_temperature(checkpoints["hubert"], temperature, tmp_path / "calibrated")
    with pytest.raises(CheckpointError, match="logit_temperature"):
        emotion.export(local(folder), ExportOptions(), tmp_path)


@pytest.mark.parametrize("exporter", [emotion.export, speaker_embedding.export])
def test_an_empty_folder_is_refused(
    exporter: Callable[[Checkpoint, ExportOptions, Path], object], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        exporter(local(tmp_path), ExportOptions(), tmp_path)


def test_features_that_the_graph_doesnt_compute_are_refused(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Plain filterbanks where the checkpoint wants deltas would give plausible nonsense."""
    folder = tmp_path / "deltas"
    folder.mkdir()
    for file in checkpoints["ecapa"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    hyperparams = folder / "hyperparams.yaml"
    hyperparams.write_text(
        hyperparams.read_text().replace(
            "n_mels: !ref <n_mels>", "n_mels: !ref <n_mels>\n    deltas: True"
        )
    )

    with pytest.raises(CheckpointError, match="plain Fbank"):
        speaker_embedding.export(local(folder), ExportOptions(), tmp_path)


def test_the_bundled_speaker_release_is_its_checkpoint() -> None:
    """The committed graph belongs to the committed weights."""
    encoder = speaker_embedding.load(sources.BUNDLED_DIR / "speaker_embedding")
    clips = windows(1.5)

    expected = speaker_embedding.reference_embeddings(encoder, clips)
    measured = onnx_graph.run(COMMITTED / "speaker_embedding" / "1" / "model.onnx", clips)

    parity.check(parity.compare(expected, measured), STRICT)


def test_the_bundled_emotion_release_is_its_checkpoint() -> None:
    clips = windows(2.0)

    expected = classify(sources.BUNDLED_DIR / "emotion", clips)
    measured = onnx_graph.run(COMMITTED / "emotion" / "1" / "model.onnx", clips)

    parity.check(parity.compare(expected, measured), STRICT)


def float32_nodes(graph: Path) -> set[str]:
    """The nodes, as module/Operator, whose answer is float32 after a conversion to fp16."""
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    return {
        node.name.rpartition("_")[0]
        for node in model.graph.node
        if node.op_type != "Cast" and types.get(node.output[0]) == onnx.TensorProto.FLOAT
    }
