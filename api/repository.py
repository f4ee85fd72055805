"""The working model repository: a copy of the committed one, and what its manifests say."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from api.errors import ConfigurationError
from api.settings import PROJECT_ROOT
from api.types import ModelRelease

COMMITTED_REPOSITORY = PROJECT_ROOT / "model_repository"
LEAVES = ("whisper", "emotion", "speaker_embedding")
ENSEMBLE = "voice_analytics"


@dataclass(frozen=True)
class Manifest:
    """One release of one model, as its `manifest.json` describes it."""

    model: str
    version: str
    content: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Tells releases apart even where two go by the same version: sha256 of the manifest."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @property
    def release(self) -> ModelRelease:
        return ModelRelease(
            version=self.version,
            checkpoint=str(self.content["checkpoint"]),
            bundled=bool(self.content["bundled"]),
        )


def seed(repository: Path) -> Path:
    """Make `repository` from the committed one where it is absent; refresh its bundled releases.

    A release exported later is never touched: only a folder whose manifest says `bundled`, and
    which differs from the committed release of the same version, is replaced by it.

    Raises:
        ConfigurationError: the folder can't be written.
    """
    try:
        if not repository.exists():
            _copy(COMMITTED_REPOSITORY, repository)
        elif repository.resolve() != COMMITTED_REPOSITORY.resolve():
            _refresh(repository)
    except OSError as error:
        raise ConfigurationError(
            f"The model repository {repository} can't be prepared: {error}. "
            "Set DATA_DIR or MODEL_REPOSITORY to a folder that can be written."
        ) from error
    return repository.resolve()


def _refresh(repository: Path) -> None:
    for committed in sorted(COMMITTED_REPOSITORY.glob("*/*/manifest.json")):
        release = repository / committed.parent.relative_to(COMMITTED_REPOSITORY)
        if not release.parent.exists():
            _copy(committed.parent.parent, release.parent)
            continue
        manifest = release / "manifest.json"
        if not manifest.exists() or manifest.read_bytes() == committed.read_bytes():
            continue
        if json.loads(manifest.read_text())["bundled"]:
            shutil.rmtree(release)
            _copy(committed.parent, release)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    shutil.copytree(source, staging, ignore=shutil.ignore_patterns("__pycache__"))
    os.rename(staging, target)


def serving_manifests(repository: Path) -> dict[str, Manifest]:
    """The newest release of each leaf, which is what `version_policy: latest` serves.

    Raises:
        ConfigurationError: a leaf has no release with a manifest.
    """
    manifests = {}
    for model in LEAVES:
        versions = sorted(int(p.name) for p in (repository / model).glob("*") if p.name.isdigit())
        path = repository / model / str(versions[-1]) / "manifest.json" if versions else None
        if path is None or not path.exists():
            raise ConfigurationError(
                f"The model repository {repository} holds no release of '{model}'. "
                f"Export one: python -m export {model} --checkpoint bundled"
            )
        manifests[model] = Manifest(model, str(versions[-1]), json.loads(path.read_text()))
    return manifests
