"""One checkpoint → one published version: find, export, check, describe, move into place."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from export import configs, manifest, publish, sources, tensorrt
from export.errors import DependencyError, OptionError
from export.types import Checkpoint, Exporter, ExportOptions, ModelName, Target

Progress = Callable[[str], None]
"""Takes one line for the person who waits."""


@dataclass(frozen=True)
class Release:
    """What to publish, and how."""

    model: ModelName
    checkpoint: str
    options: ExportOptions
    version: int | None = None
    replace: bool = False
    dry_run: bool = False


def check_options(model: ModelName, options: ExportOptions) -> None:
    """Refuses a precision that the model or the target can't make use of.

    Raises:
        OptionError: the message says what to choose instead.
    """
    if options.precision == "fp16" and options.target == "embedded":
        raise OptionError(
            "--precision fp16 is for GPU targets (--target onnxruntime or tensorrt): on a CPU it "
            "is slower than fp32; --precision bf16 and int8 make a CPU faster"
        )
    if options.precision in ("bf16", "int8") and options.target != "embedded":
        raise OptionError(
            f"--precision {options.precision} is for the embedded target, which computes on a CPU; "
            f"--target {options.target} takes fp32 or fp16"
        )
    if options.precision == "bf16" and model == "whisper":
        raise OptionError(
            "whisper has no bf16: its decoder gains from int8 only; use --precision int8"
        )
    if options.precision == "int8" and model == "speaker_embedding":
        raise OptionError(
            "speaker_embedding has no int8: it consists of convolutions, and only matrix products "
            "gain from dynamic quantisation; use --precision bf16"
        )


def import_exporter(model: ModelName) -> Exporter:
    """The `export` function of the model's own module; torch and its companions come with it.

    Raises:
        DependencyError: they aren't installed.
    """
    try:
        module = importlib.import_module(f"export.{model}")
    except ModuleNotFoundError as error:
        raise DependencyError(error) from error
    return cast(Exporter, module.export)


def make(
    release: Release,
    repository: Path,
    progress: Progress,
    import_exporter: Callable[[ModelName], Exporter] = import_exporter,
) -> Path | None:
    """Exports and publishes one release; returns its folder, or None for a dry run.

    Raises:
        ExportError: any kind of it; nothing is left behind then.
    """
    model = release.model
    check_options(model, release.options)
    if not release.dry_run:
        prepare_repository(release, repository, progress)
    version = publish.choose_version(repository, model, release.version, release.replace)
    progress(f"{model}: looking for the checkpoint '{release.checkpoint}'")
    checkpoint = sources.resolve(model, release.checkpoint)
    progress(f"{model}: exporting {checkpoint.name} ({checkpoint.source})")
    exporter = import_exporter(model)
    with publish.staging_folder(None if release.dry_run else repository) as staging:
        described = _fill(exporter, release, checkpoint, version, staging)
        progress(f"{model}: agrees with PyTorch: {_summary(described)}")
        if release.dry_run:
            progress(f"{model}: dry run, version {version} is not published")
            return None
        target = repository / model / str(version)
        publish.publish(staging, target, release.replace)
    progress(
        f"{model}: published version {version} in {repository}; where another one serves already, "
        f"roll it out: POST /models/{model}/rollouts"
    )
    return target


def is_present(release: Release, repository: Path) -> bool:
    """Whether the newest version of the model already is an export of that checkpoint with those
    options."""
    taken = publish.versions(repository, release.model)
    if not taken:
        return False
    newest = manifest.read(repository / release.model / str(taken[-1]))
    made = (newest["precision"], newest["target"])
    return newest["checkpoint"] == _checkpoint_name(release) and made == (
        release.options.precision,
        release.options.target,
    )


def prepare_repository(release: Release, repository: Path, progress: Progress) -> None:
    """Seeds an absent repository, renders absent configs, and refuses to mix targets.

    Raises:
        OptionError: the repository is rendered for another target.
    """
    target = release.options.target
    if publish.seed(repository):
        progress(f"made {repository}, a copy of the committed repository, for target {target}")
        render(repository, target)
    present = configs.rendered_target(repository, release.model)
    if present is None:
        render(repository, target)
    elif present != target:
        raise OptionError(
            f"{repository} is rendered for target {present}, not {target}: choose another "
            "--repository, or first run "
            f"python -m export render --target {target} --repository {repository}"
        )


def render(repository: Path, target: Target) -> list[Path]:
    """Writes all that depends on the target: every config.pbtxt, and the script that builds
    TensorRT plans."""
    written = configs.write_all(repository, target)
    if target == "tensorrt":
        written.append(tensorrt.write_build_script(repository))
    return written


def _fill(
    exporter: Exporter, release: Release, checkpoint: Checkpoint, version: int, staging: Path
) -> dict[str, Any]:
    """Exports into `staging`; the manifest is the last file written."""
    # Imported here, since rendering and verifying work without the export environment.
    from export.onnx_metadata import drop_metadata

    facts = exporter(checkpoint, release.options, staging)
    for graph in staging.rglob("*.onnx"):
        drop_metadata(graph)
    content = manifest.build(release.model, version, checkpoint, release.options, facts, staging)
    manifest.write(staging, content)
    return content


def _checkpoint_name(release: Release) -> str:
    """What the manifest of this release would call its checkpoint, found without a download."""
    path = Path(release.checkpoint).expanduser()
    if release.checkpoint == sources.BUNDLED:
        return sources.BUNDLED
    if path.exists():
        return path.resolve().name
    return sources.hub_name(release.model, release.checkpoint).partition("@")[0]


def _summary(content: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in content["parity"].items()
    )
