"""Finds a checkpoint: the bundled one, a folder or file on this machine, or a name on the Hugging
Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from export import settings
from export.errors import CheckpointError, DependencyError, HubUnreachableError
from export.types import Checkpoint, ModelName

BUNDLED: Final = "bundled"
HUB: Final = "hub"
UNKNOWN_LICENSE: Final = "unknown"

BUNDLED_DIR: Final = Path(__file__).resolve().parent / "checkpoints"
"""One folder per model, in the formats that the hub serves."""

WHISPER_SIZES: Final = (
    *("tiny", "base", "small", "medium"),
    *("tiny.en", "base.en", "small.en", "medium.en"),
    *("large", "large-v2", "large-v3", "large-v3-turbo"),
)
"""What WHISPER_MODEL may say in short for `openai/whisper-SIZE`."""

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")

_FRONT_MATTER = re.compile(r"---\n(.*?)\n---", re.DOTALL)
_LICENSE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
"""A model card begins with YAML metadata; the hub's licences are one word, such as cc-by-sa-4.0."""

_WEIGHTS: Final = (
    ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json"),
)
"""Weight files in order of preference; a repository often holds the same weights in several formats
and precisions."""

_TRANSFORMERS_FILES: Final = (
    *("config.json", "preprocessor_config.json", "generation_config.json", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "normalizer.json"),
)
_SPEECHBRAIN_FILES: Final = ("hyperparams.yaml", "*.ckpt", "label_encoder.txt", "README.md")


def resolve(model: ModelName, wanted: str) -> Checkpoint:
    """Turns what the command line names into a checkpoint on this machine, downloading it where
    needed.

    `wanted` is "bundled", "hub" (the model's default hub checkpoint), the path of a folder or file,
    a hub name with an optional `@revision`, or a Whisper size.

    Raises:
        CheckpointError: it is none of these, or the hub has no such checkpoint.
        HubUnreachableError: it is a hub name, not in the local cache, and no hub answers.
    """
    if wanted == BUNDLED:
        return _bundled(model)
    if wanted and Path(wanted).expanduser().exists():
        return _local(model, Path(wanted).expanduser().resolve())
    return _download(model, hub_name(model, wanted))


def hub_name(model: ModelName, wanted: str) -> str:
    """The full hub name that `wanted` stands for.

    Raises:
        CheckpointError: it doesn't look like one.
    """
    name = settings.default_checkpoint(model) if wanted == HUB else wanted
    if model == "whisper" and name in WHISPER_SIZES:
        return f"openai/whisper-{name}"
    if not _HUB_NAME.fullmatch(name.partition("@")[0]):
        raise CheckpointError(
            f"unknown checkpoint '{name}': neither a folder or file here nor a hub name such as "
            f"{settings.default_checkpoint('emotion')}; 'bundled' and 'hub' are known too"
            + (f", and the sizes {', '.join(WHISPER_SIZES)}" if model == "whisper" else "")
        )
    return name


def _bundled(model: ModelName) -> Checkpoint:
    folder = BUNDLED_DIR / model
    if not folder.is_dir():
        raise CheckpointError(f"this checkout has no bundled checkpoint of '{model}'")
    source = f"export/checkpoints/{model}, trained by export/training"
    return Checkpoint(BUNDLED, folder, True, _license(folder), source)


def _local(model: ModelName, path: Path) -> Checkpoint:
    if path == BUNDLED_DIR / model:
        return _bundled(model)
    folder = path if path.is_dir() else path.parent
    return Checkpoint(path.name, path, False, _license(folder), f"local {path.name}")


def _download(model: ModelName, name: str) -> Checkpoint:
    """Fetches what the exporter reads of a hub checkpoint, or finds it in the local cache."""
    try:
        import requests
        from huggingface_hub import HfApi, errors, snapshot_download
    except ModuleNotFoundError as error:
        raise DependencyError(error) from error

    repo_id, _, revision = name.partition("@")
    chosen = revision or None
    try:
        files = HfApi().list_repo_files(repo_id, revision=chosen)
        patterns = download_patterns(model, files)
        folder = Path(snapshot_download(repo_id, revision=chosen, allow_patterns=patterns))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CheckpointError(f"the hub has no checkpoint '{name}', or it is private") from error
    except (
        errors.HfHubHTTPError,
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        requests.RequestException,
    ) as error:
        folder = _cached(model, name, error)
    source = f"Hugging Face hub, {repo_id}, revision {folder.name}"
    return Checkpoint(repo_id, folder, False, _license(folder), source)


def _cached(model: ModelName, name: str, cause: Exception) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo_id, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(repo_id, revision=revision or None, local_files_only=True))
    except LocalEntryNotFoundError:
        raise HubUnreachableError(
            f"the Hugging Face hub can't be reached, and '{name}' isn't in its local cache.\n"
            f"Where the hub can be reached: hf download {repo_id} "
            f"--local-dir {Path(repo_id).name}\n"
            f"Then copy the folder here and: python -m export {model} "
            f"--checkpoint PATH/TO/{Path(repo_id).name}\n"
            "HF_ENDPOINT names a mirror of the hub."
        ) from cause
    return folder


def download_patterns(model: ModelName, files: Sequence[str]) -> list[str]:
    """Which of a hub repository's `files` the exporter reads: one format of the weights."""
    if model == "speaker_embedding":
        return list(_SPEECHBRAIN_FILES)
    weights = next((kind for kind in _WEIGHTS if {kind[0], kind[2]} & set(files)), _WEIGHTS[0])
    return [*_TRANSFORMERS_FILES, *weights]


def _license(folder: Path) -> str:
    """The licence that the model card's metadata states, or "unknown"."""
    card = folder / "README.md"
    metadata = _FRONT_MATTER.match(card.read_text(encoding="utf-8")) if card.is_file() else None
    stated = _LICENSE.search(metadata[1]) if metadata else None
    return stated[1].lower() if stated else UNKNOWN_LICENSE
