"""Prints poetry.lock as requirements with hashes, for tools that read nothing else.

python -m scripts.locked > requirements.txt
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from api.settings import PROJECT_ROOT

# Python 3.10 has no tomllib; black brings tomli there.
toml: Final[Any] = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

LOCK: Final = PROJECT_ROOT / "poetry.lock"


def packages() -> list[dict[str, Any]]:
    """What the lock names, but for our own client, which is a folder here."""
    found = toml.loads(LOCK.read_text())["package"]
    return [package for package in found if package.get("source", {}).get("type") != "directory"]


def requirements() -> Iterator[str]:
    """One line a package: its version, where it is wanted, and the hashes of all of its files."""
    for package in packages():
        hashes = " ".join(f"--hash={file['hash']}" for file in package["files"])
        yield f"{package['name']}=={package['version']}{_marker(package)} {hashes}"


def _marker(package: Mapping[str, Any]) -> str:
    markers = package.get("markers")
    if isinstance(markers, Mapping):
        markers = " or ".join(f"({marker})" for marker in dict.fromkeys(markers.values()))
    return f" ; {markers}" if markers else ""


if __name__ == "__main__":
    print("\n".join(requirements()))
