"""manifest.json: what a version folder holds, where it came from, and how well it agrees with
PyTorch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from export.errors import ManifestError
from export.types import Checkpoint, ExportOptions, ModelFacts, ModelName

FILENAME: Final = "manifest.json"

DERIVED: Final = frozenset({FILENAME, "model.plan", "__pycache__"})
"""What may lie in a version folder beside its released files: TensorRT plans fit one GPU and are
built on the spot, byte code appears when Triton imports the model."""

_TOOLS: Final = (
    "torch",
    "transformers",
    "speechbrain",
    "onnx",
    "onnxruntime",
    "openvino",
    "tokenizers",
)


def build(
    model: ModelName,
    version: int,
    checkpoint: Checkpoint,
    options: ExportOptions,
    facts: ModelFacts,
    folder: Path,
) -> dict[str, Any]:
    """Describes the files that lie in `folder`, in the manifest's layout."""
    return {
        "model": model,
        "version": str(version),
        "checkpoint": checkpoint.name,
        "bundled": checkpoint.bundled,
        "source": checkpoint.source,
        "license": checkpoint.license,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "precision": options.precision,
        "target": options.target,
        "opset": facts.opset,
        "options": dict(facts.options),
        **facts.facts,
        "files": describe_files(folder),
        "parity": dict(facts.parity),
        "tools": _tool_versions(),
    }


def write(folder: Path, content: dict[str, Any]) -> None:
    """Writes the manifest of a version folder."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / FILENAME).write_text(f"{text}\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a version folder.

    Raises:
        ManifestError: it is missing or isn't a JSON object.
    """
    path = folder / FILENAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(f"{folder} has no {FILENAME}") from error
    except ValueError as error:
        raise ManifestError(f"{path} isn't valid JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise ManifestError(f"{path} isn't a manifest: it lists no files")
    return content


def describe_files(folder: Path) -> dict[str, dict[str, str | int]]:
    """sha256 and size of every released file of a version folder, by its path within it."""
    return {
        name: {"sha256": _sha256(folder / name), "size_bytes": (folder / name).stat().st_size}
        for name in _released(folder)
    }


def differences(folder: Path) -> list[str]:
    """What of a version folder isn't as its manifest says; empty when all is well.

    Raises:
        ManifestError: the manifest itself can't be read.
    """
    expected, found = read(folder)["files"], describe_files(folder)
    return [
        *(f"{name} is missing" for name in expected if name not in found),
        *(f"{name} is not in the manifest" for name in found if name not in expected),
        *(
            f"{name} was changed"
            for name in found
            if expected.get(name, found[name]) != found[name]
        ),
    ]


def refresh(folder: Path) -> None:
    """Takes the present files of a version folder as released; all else in its manifest stays.

    Raises:
        ManifestError: there is no manifest to refresh.
    """
    write(folder, read(folder) | {"files": describe_files(folder)})


def _released(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder) for path in paths)
    return sorted(name.as_posix() for name in names if not DERIVED & set(name.parts))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _tool_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _TOOLS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
