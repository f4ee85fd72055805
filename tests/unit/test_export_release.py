"""From the command line to a published version, with exporters that need no torch."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from export import configs, manifest, release
from export.cli import main
from export.errors import ExportError, OptionError, ParityError
from export.types import (
    MODEL_NAMES,
    Checkpoint,
    Exporter,
    ExportOptions,
    ModelFacts,
    ModelName,
    Precision,
    Target,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository rendered for the embedded target, with no versions."""
    folder = tmp_path / "models"
    release.render(folder, "embedded")
    return folder


def writes_weights(checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
    (staging / "weights.bin").write_text("weights")
    return ModelFacts({"labels": ["sad"]}, {"min_cosine": 1.0, "clips": 6}, options.opset)


def differs_from_pytorch(
    checkpoint: Checkpoint, options: ExportOptions, staging: Path
) -> ModelFacts:
    (staging / "weights.bin").write_text("wrong weights")
    raise ParityError("the exported model doesn't answer as PyTorch does")


def make(
    wanted: release.Release, repository: Path, exporter: Exporter = writes_weights
) -> tuple[Path | None, list[str]]:
    lines: list[str] = []
    published = release.make(wanted, repository, lines.append, lambda model: exporter)
    return published, lines


def emotion(checkpoint: Path, **changes: object) -> release.Release:
    fields: dict[str, object] = {"options": ExportOptions()} | changes
    return release.Release("emotion", str(checkpoint), **fields)  # type: ignore[arg-type]


def test_a_release_is_published_with_its_manifest(checkpoint: Path, repository: Path) -> None:
    published, lines = make(emotion(checkpoint), repository)

    assert published == repository / "emotion" / "1"
    content = manifest.read(published)
    assert (content["checkpoint"], content["version"], content["labels"]) == ("tiny", "1", ["sad"])
    assert manifest.differences(published) == []
    assert "min_cosine 1" in lines[-2] and "published version 1" in lines[-1]


def test_graphs_are_published_without_the_folders_of_this_machine(
    checkpoint: Path, repository: Path
) -> None:
    """torch's exporter writes a stack trace into every node."""

    def traced(checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
        node = onnx.helper.make_node("Relu", ["x"], ["y"], doc_string=f"File {__file__}")
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=f"File {__file__}")
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"
        ]
        graph = onnx.helper.make_graph([node], "relu", ends[:1], ends[1:])
        onnx.save(onnx.helper.make_model(graph), staging / "model.onnx")
        return writes_weights(checkpoint, options, staging)

    published, _ = make(emotion(checkpoint), repository, traced)

    assert published is not None
    assert __file__.encode() not in (published / "model.onnx").read_bytes()
    onnx.checker.check_model(published / "model.onnx")
    assert manifest.differences(published) == []


def test_the_next_one_gets_the_next_number(checkpoint: Path, repository: Path) -> None:
    make(emotion(checkpoint), repository)

    published, _ = make(emotion(checkpoint), repository)

    assert published == repository / "emotion" / "2"


def test_a_failed_check_leaves_nothing_behind(checkpoint: Path, repository: Path) -> None:
    before = sorted(repository.rglob("*"))

    with pytest.raises(ParityError):
        make(emotion(checkpoint), repository, differs_from_pytorch)

    assert sorted(repository.rglob("*")) == before


def test_a_failed_replacement_keeps_the_release(checkpoint: Path, repository: Path) -> None:
    make(emotion(checkpoint), repository)

    with pytest.raises(ParityError):
        make(emotion(checkpoint, version=1, replace=True), repository, differs_from_pytorch)

    assert (repository / "emotion" / "1" / "weights.bin").read_text() == "weights"


def test_a_dry_run_writes_nothing_at_all(checkpoint: Path, tmp_path: Path) -> None:
    published, lines = make(emotion(checkpoint, dry_run=True), tmp_path / "absent")

    assert published is None
    assert not (tmp_path / "absent").exists()
    assert "not published" in lines[-1]


def test_an_absent_repository_is_rendered_for_the_target(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(target="tensorrt")

    make(emotion(checkpoint, options=options), tmp_path / "gpu")

    for model in configs.ALL_MODELS:
        assert configs.rendered_target(tmp_path / "gpu", model) == "tensorrt"
    assert (tmp_path / "gpu" / "build_plans.sh").stat().st_mode & 0o111


def test_a_repository_of_another_target_is_refused(checkpoint: Path, repository: Path) -> None:
    """Its config would look for a plan where there is a graph, or for a device that isn't there."""
    with pytest.raises(OptionError, match="rendered for target embedded"):
        make(emotion(checkpoint, options=ExportOptions(target="tensorrt")), repository)


def test_only_the_same_export_counts_as_present(checkpoint: Path, repository: Path) -> None:
    wanted = emotion(checkpoint)
    assert not release.is_present(wanted, repository)

    make(wanted, repository)

    assert release.is_present(wanted, repository)
    assert not release.is_present(
        emotion(checkpoint, options=ExportOptions(precision="int8")), repository
    )
    assert not release.is_present(emotion(checkpoint.parent), repository)


def test_only_missing_counts_what_a_new_repository_starts_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled releases come with the copy of the committed repository."""
    repository = tmp_path / "models"
    arguments = ["emotion", "--checkpoint", "bundled", "--repository", str(repository)]

    assert main([*arguments, "--only-missing"]) == 0

    assert "emotion: bundled is there already" in capsys.readouterr().out
    assert [path.name for path in (repository / "emotion").glob("[0-9]*")] == ["1"]


@pytest.mark.parametrize(
    ("model", "precision", "target"),
    [
        ("emotion", "fp16", "embedded"),
        ("whisper", "int8", "tensorrt"),
        ("emotion", "int8", "onnxruntime"),
        ("speaker_embedding", "int8", "embedded"),
        ("speaker_embedding", "bf16", "tensorrt"),
        ("whisper", "bf16", "embedded"),
    ],
)
def test_precisions_that_would_gain_nothing_are_refused(
    model: ModelName, precision: Precision, target: Target
) -> None:
    with pytest.raises(OptionError, match=r"fp32|int8"):
        release.check_options(model, ExportOptions(precision=precision, target=target))


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        ("whisper", "int8"),
        ("emotion", "int8"),
        ("emotion", "bf16"),
        ("speaker_embedding", "bf16"),
    ],
)
def test_a_cpu_takes_coarser_models(model: ModelName, precision: Precision) -> None:
    release.check_options(model, ExportOptions(precision=precision))


@pytest.mark.parametrize("model", MODEL_NAMES)
@pytest.mark.parametrize(
    ("precision", "target"),
    [("fp32", "embedded"), ("fp32", "tensorrt"), ("fp16", "onnxruntime"), ("fp16", "tensorrt")],
)
def test_the_others_are_taken(model: ModelName, precision: Precision, target: Target) -> None:
    release.check_options(model, ExportOptions(precision=precision, target=target))


def test_verify_finds_the_changed_file(
    checkpoint: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published, _ = make(emotion(checkpoint), repository)
    assert published is not None
    assert main(["verify", "--repository", str(repository)]) == 0

    (published / "weights.bin").write_text("patched")

    assert main(["verify", "--repository", str(repository)]) == 1
    assert "weights.bin was changed" in capsys.readouterr().out


def test_manifest_takes_the_change_as_released(checkpoint: Path, repository: Path) -> None:
    published, _ = make(emotion(checkpoint), repository)
    assert published is not None
    (published / "weights.bin").write_text("patched")

    assert main(["manifest", str(published)]) == 0
    assert main(["verify", "--repository", str(repository)]) == 0


def test_render_switches_a_repository_to_another_target(repository: Path) -> None:
    assert main(["render", "--target", "onnxruntime", "--repository", str(repository)]) == 0

    assert "KIND_GPU" in (repository / "emotion" / "config.pbtxt").read_text()
    assert configs.rendered_target(repository, "emotion") == "onnxruntime"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emotion", "--checkpoint", "nonsense"], "unknown checkpoint 'nonsense'"),
        (["emotion", "--checkpoint", "{tmp}", "--version", "0"], "--version must be 1 or more"),
        (["emotion", "--checkpoint", "{tmp}", "--precision", "fp16"], "GPU targets"),
        (["all", "--checkpoint", "{tmp}"], "there is no {tmp}/whisper"),
        (["verify", "--repository", "{tmp}/nowhere"], "there is no repository"),
        (["manifest", "{tmp}"], "has no manifest.json"),
    ],
)
def test_mistakes_get_one_line_and_status_1(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--repository" not in filled and filled[0] != "manifest":
        filled += ["--repository", str(tmp_path / "models")]

    assert main(filled) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: ") and message.format(tmp=tmp_path) in error


def test_every_error_of_the_tree_is_an_export_error() -> None:
    """The command line catches the root only: what isn't below it would end in a stack trace."""
    from export import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) >= 8
    assert all(issubclass(kind, ExportError) for kind in kinds)
