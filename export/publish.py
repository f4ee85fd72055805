"""Version folders of a model repository: they appear whole or not at all, and never change."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from export.errors import OptionError, VersionExistsError
from export.types import ModelName

COMMITTED_REPOSITORY: Final = Path(__file__).resolve().parents[1] / "model_repository"
"""The repository that the project ships, with the bundled releases."""

_STAGING_PREFIX: Final = ".staging-"


def seed(repository: Path) -> bool:
    """Makes `repository` a copy of the committed one if it doesn't exist; says whether it did."""
    if repository.exists():
        return False
    repository.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=repository.parent) as staging:
        copy = Path(staging) / repository.name
        shutil.copytree(
            COMMITTED_REPOSITORY, copy, ignore=shutil.ignore_patterns("__pycache__", ".staging-*")
        )
        copy.rename(repository)
    return True


def versions(repository: Path, model: ModelName) -> list[int]:
    """The version numbers that a model has in a repository, ascending."""
    return sorted(
        int(path.name)
        for path in (repository / model).glob("*")
        if path.is_dir() and path.name.isdigit()
    )


def choose_version(
    repository: Path, model: ModelName, wanted: int | None, replace: bool = False
) -> int:
    """The number of the version to write: the wanted one, or the next.

    Raises:
        OptionError: the number isn't positive.
        VersionExistsError: it is taken, and `replace` is false.
    """
    taken = versions(repository, model)
    if wanted is None:
        return max(taken, default=0) + 1
    if wanted < 1:
        raise OptionError(f"--version must be 1 or more, not {wanted}: Triton ignores others")
    if wanted in taken and not replace:
        raise VersionExistsError(
            f"version {wanted} of '{model}' exists, and a published version is never changed: "
            f"leave --version out to get version {taken[-1] + 1}"
        )
    return wanted


@contextmanager
def staging_folder(repository: Path | None) -> Iterator[Path]:
    """An empty folder in the repository, so that a rename publishes it; what is left of it in the
    end is removed.

    Without a repository it lies among the system's temporary files, for work that won't be
    published.
    """
    with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=repository) as staging:
        folder = Path(staging) / "version"
        folder.mkdir()
        yield folder


def publish(staging: Path, target: Path, replace: bool = False) -> None:
    """Moves a staged version into place in one step.

    Raises:
        VersionExistsError: the version appeared meanwhile, and `replace` is false.
    """
    target.parent.mkdir(exist_ok=True)
    replaced = staging.parent / "replaced"
    if replace and target.exists():
        target.rename(replaced)
    try:
        os.rename(staging, target)
    except OSError as error:
        if replaced.exists():
            replaced.rename(target)
        if not target.exists():
            raise
        raise VersionExistsError(f"{target} was published by someone else meanwhile") from error
