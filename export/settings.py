"""The exporter's settings: environment variables, else `.env` in the working directory, else the
default."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from export.types import ModelName

_DEFAULT_CHECKPOINTS: dict[ModelName, tuple[str, str]] = {
    "whisper": ("WHISPER_MODEL", "base"),
    "emotion": ("EMOTION_MODEL", "superb/wav2vec2-base-superb-er"),
    "speaker_embedding": ("SPEAKER_MODEL", "speechbrain/spkrec-ecapa-voxceleb"),
}


def default_checkpoint(model: ModelName) -> str:
    """The hub checkpoint of a model: WHISPER_MODEL, EMOTION_MODEL or SPEAKER_MODEL."""
    variable, default = _DEFAULT_CHECKPOINTS[model]
    return _read(variable) or default


def default_repository() -> Path:
    """The working repository: MODEL_REPOSITORY, by default `model_repository` under DATA_DIR
    (`.data`)."""
    chosen = _read("MODEL_REPOSITORY")
    return Path(chosen) if chosen else Path(_read("DATA_DIR") or ".data") / "model_repository"


def _read(variable: str) -> str | None:
    return os.environ.get(variable) or dotenv_values(".env").get(variable)
