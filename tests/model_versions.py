"""Further versions of the bundled models, as an exporter would publish them, good and bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.repository import COMMITTED_REPOSITORY
from export import manifest

Spoil = Callable[[Path, dict[str, Any]], None]
"""Changes the files of a staged version, or what its manifest is going to say."""


def publish(repository: Path, model: str, version: str, spoil: Spoil | None = None) -> Path:
    """Publish a copy of the committed version 1 under another number, in one step."""
    staging = repository / f".staging-{model}-{version}"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(COMMITTED_REPOSITORY / model / "1", staging, ignore=ignored)
    content = manifest.read(staging)
    content |= {"version": version, "checkpoint": f"copy-{version}"}
    if spoil is not None:
        spoil(staging, content)
    manifest.write(staging, content | {"files": manifest.describe_files(staging)})
    return staging.rename(repository / model / version)


def rotated_labels(folder: Path, content: dict[str, Any]) -> None:
    """An emotion model whose every answer tells from which version it is."""
    content["labels"] = [*content["labels"][1:], content["labels"][0]]


def dying(folder: Path, content: dict[str, Any]) -> None:
    """A Whisper whose process ends at its first request."""
    _edit_execute(folder, "import os; os._exit(9)")


def garbling(folder: Path, content: dict[str, Any]) -> None:
    """A Whisper whose answers aren't the agreed JSON."""
    path = folder / "model.py"
    code = path.read_text()
    spoiled = code.replace("rows = np.array([[text.encode()]", "rows = np.array([[b'{']")
    assert spoiled != code
    path.write_text(spoiled)


def unloadable(folder: Path, content: dict[str, Any]) -> None:
    """A graph that isn't one."""
    (folder / "model.onnx").write_bytes(b"no graph")


def without_labels(folder: Path, content: dict[str, Any]) -> None:
    del content["labels"]


def _edit_execute(folder: Path, line: str) -> None:
    path = folder / "model.py"
    code = path.read_text()
    start = "responses: list[Any] = [None] * len(requests)"
    assert start in code
    path.write_text(code.replace(start, f"{line}\n        {start}"))


def labels(repository: Path, version: str) -> list[str]:
    """The emotion model's labels in a version."""
    path = repository / "emotion" / version / "manifest.json"
    return list(json.loads(path.read_text())["labels"])
