"""`python -m export`: the arguments, and what each command does with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export import manifest, publish, release, settings, sources
from export.errors import ExportError, ManifestError, OptionError
from export.types import MODEL_NAMES, PRECISIONS, TARGETS, ExportOptions, ModelName

DESCRIPTION = """\
Turns checkpoints into versions of Triton models. A version is an immutable folder of the model
repository, with a manifest that records its source, licence, hashes and measured agreement with
PyTorch; it appears only when that agreement holds.
"""

EPILOG = """\
examples:
  python -m export all --checkpoint hub           WHISPER_MODEL, EMOTION_MODEL, SPEAKER_MODEL
  python -m export whisper --checkpoint small     openai/whisper-small from the Hugging Face hub
  python -m export whisper --checkpoint ./my.pt   a file of openai-whisper
  python -m export emotion --checkpoint ./folder  a folder in Hugging Face's layout
  python -m export emotion --checkpoint bundled --precision int8
  python -m export render --target onnxruntime --repository /models
  python -m export verify --repository /models

Checkpoints are programs as much as data (SpeechBrain's hyperparams.yaml names the code it runs):
export those you trust.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed with a message, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for model in (*MODEL_NAMES, "all"):
        what = "all three models" if model == "all" else f"the {model} model"
        command = commands.add_parser(model, help=f"export {what}")
        _add_export_arguments(command, model)
        command.set_defaults(run=_export, model=model)

    render = commands.add_parser("render", help="write every config.pbtxt for a target")
    _add_target(render)
    _add_repository(render)
    render.set_defaults(run=_render)

    verify = commands.add_parser("verify", help="check every file of every version by its hash")
    _add_repository(verify)
    verify.set_defaults(run=_verify)

    refresh = commands.add_parser(
        "manifest", help="take the present files of an unpublished version as released"
    )
    refresh.add_argument("folder", type=Path, metavar="DIR", help="the version's folder")
    refresh.set_defaults(run=_refresh)
    return parser


def _add_export_arguments(command: argparse.ArgumentParser, model: str) -> None:
    choices = "bundled, hub, a folder" if model == "all" else "bundled, hub, a name, a path"
    layout = f" holding {', '.join(MODEL_NAMES)}" if model == "all" else ""
    command.add_argument(
        "--checkpoint",
        default=sources.HUB,
        metavar="NAME|PATH|bundled",
        help=f"{choices}{layout} (default: hub, as WHISPER_MODEL and its siblings say)",
    )
    command.add_argument(
        "--version", type=int, metavar="N", help="version to publish (default: the next)"
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp16 for GPU targets, bf16 or int8 for the embedded one (default: fp32)",
    )
    _add_target(command)
    _add_repository(command)
    command.add_argument(
        "--only-missing",
        action="store_true",
        help="skip a model whose newest version already is this export",
    )
    command.add_argument(
        "--replace",
        action="store_true",
        help="overwrite the version; for the releases that the project commits only",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="export and check, but publish nothing"
    )


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--target",
        choices=TARGETS,
        default="embedded",
        help="the Triton that will serve it: the embedded one on a CPU, or NVIDIA's container with "
        "its onnxruntime or tensorrt backend (default: embedded)",
    )


def _add_repository(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--repository",
        type=Path,
        default=None,
        metavar="DIR",
        help="model repository (default: MODEL_REPOSITORY, or model_repository under DATA_DIR)",
    )


def _export(arguments: argparse.Namespace) -> int:
    repository = _repository(arguments)
    for wanted in _releases(arguments):
        if arguments.only_missing:
            release.prepare_repository(wanted, repository, _say)
            if release.is_present(wanted, repository):
                _say(f"{wanted.model}: {wanted.checkpoint} is there already")
                continue
        release.make(wanted, repository, _say)
    return 0


def _releases(arguments: argparse.Namespace) -> list[release.Release]:
    models = MODEL_NAMES if arguments.model == "all" else (arguments.model,)
    return [_release(arguments, model) for model in models]


def _release(arguments: argparse.Namespace, model: ModelName) -> release.Release:
    checkpoint, precision = arguments.checkpoint, arguments.precision
    if arguments.model == "all":
        checkpoint = _member(checkpoint, model)
        if model == "speaker_embedding" and precision == "int8":
            _say("speaker_embedding: bf16, since its convolutions gain nothing from int8")
            precision = "bf16"
    options = ExportOptions(precision=precision, target=arguments.target)
    release.check_options(model, options)
    return release.Release(
        model, checkpoint, options, arguments.version, arguments.replace, arguments.dry_run
    )


def _member(checkpoint: str, model: ModelName) -> str:
    """The part of a checkpoint for `all` that concerns one model.

    Raises:
        OptionError: it can't stand for three models.
    """
    if checkpoint in (sources.BUNDLED, sources.HUB):
        return checkpoint
    folder = Path(checkpoint).expanduser() / model
    if not folder.exists():
        raise OptionError(
            f"'all' takes bundled, hub, or a folder holding {', '.join(MODEL_NAMES)}; "
            f"there is no {folder}"
        )
    return str(folder)


def _render(arguments: argparse.Namespace) -> int:
    repository = _repository(arguments)
    if publish.seed(repository):
        _say(f"made {repository}, a copy of the committed repository")
    for path in release.render(repository, arguments.target):
        _say(f"wrote {path}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    repository = _repository(arguments)
    if not repository.is_dir():
        raise OptionError(f"there is no repository {repository}")
    failures = 0
    for model in MODEL_NAMES:
        for version in publish.versions(repository, model):
            failures += _verify_version(repository / model / str(version))
    return 1 if failures else 0


def _verify_version(folder: Path) -> int:
    try:
        found = manifest.differences(folder)
    except ManifestError as error:
        found = [str(error)]
    _say(f"{folder}: {'; '.join(found) or 'as released'}")
    return len(found)


def _refresh(arguments: argparse.Namespace) -> int:
    manifest.refresh(arguments.folder)
    _say(f"{arguments.folder}: the manifest names the present files")
    return 0


def _repository(arguments: argparse.Namespace) -> Path:
    chosen: Path | None = arguments.repository
    return chosen or settings.default_repository()


def _say(line: str) -> None:
    print(line, flush=True)
