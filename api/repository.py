"""The working model repository: a copy of the committed one, and what its manifests say."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from api.errors import ConfigurationError, UnusableRelease
from api.settings import PROJECT_ROOT
from api.types import ModelRelease

COMMITTED_REPOSITORY = PROJECT_ROOT / "model_repository"
LEAVES = ("whisper", "emotion", "speaker_embedding")
ENSEMBLE = "voice_analytics"
MANIFEST = "manifest.json"

DERIVED = frozenset({MANIFEST, "model.plan", "__pycache__"})
"""What may lie in a release's folder beside its files: `export.manifest` has the same list."""


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
            outdated = release.with_name(f".{release.name}.{uuid4().hex[:8]}")
            os.rename(release, outdated)
            _copy(committed.parent, release)
            shutil.rmtree(outdated)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid4().hex[:8]}"
    shutil.copytree(source, staging, ignore=shutil.ignore_patterns("__pycache__"))
    os.rename(staging, target)


def versions(repository: Path, model: str) -> list[str]:
    """The versions that a model has on disk, oldest first."""
    found = (p.name for p in (repository / model).glob("*") if p.name.isdigit() and p.is_dir())
    return sorted(found, key=int)


def manifest(repository: Path, model: str, version: str) -> Manifest:
    """What a release says of itself.

    Raises:
        UnusableRelease: it isn't there, or its manifest isn't one.
    """
    path = repository / model / version / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["model"] != model or content["version"] != version:
            raise ValueError("it names another model or version")
        release = Manifest(model, version, content)
        _ = release.release
        return release
    except FileNotFoundError as error:
        raise UnusableRelease(
            f"Version {version} of '{model}' is not in the model repository",
            model=model,
            version=version,
        ) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UnusableRelease(
            f"The manifest of version {version} of '{model}' can't be used: {error}",
            model=model,
            version=version,
        ) from error


def verify(repository: Path, model: str, version: str) -> Manifest:
    """The manifest of a release whose files are exactly those that it lists, by their sha256.

    Raises:
        UnusableRelease: a file is missing, changed, or in addition.
    """
    release = manifest(repository, model, version)
    folder = repository / model / version
    listed = release.content.get("files")
    try:
        expected = {name: str(about["sha256"]) for name, about in dict(listed or {}).items()}
        found = {name: _sha256(folder / name) for name in _released(folder)}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UnusableRelease(
            f"The files of version {version} of '{model}' can't be checked: {error}",
            model=model,
            version=version,
        ) from error
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong or not expected:
        raise UnusableRelease(
            f"The files of version {version} of '{model}' aren't those of its manifest: "
            + (", ".join(wrong) or "it lists none"),
            model=model,
            version=version,
        )
    return release


def newest(repository: Path) -> dict[str, str]:
    """The newest version of each leaf: what serves when a repository is served for the first time.

    Raises:
        ConfigurationError: a leaf has no release.
    """
    chosen = {}
    for model in LEAVES:
        found = versions(repository, model)
        if not found:
            raise ConfigurationError(
                f"The model repository {repository} holds no release of '{model}'. "
                f"Export one: python -m export {model} --checkpoint bundled"
            )
        chosen[model] = found[-1]
    return chosen


def ensemble_name(chosen: Mapping[str, str]) -> str:
    """The name of the ensemble whose steps are pinned to these versions of the leaves."""
    return "_".join([ENSEMBLE, *(chosen[model] for model in LEAVES)])


def _released(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not DERIVED & set(path.parts))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
