"""Which recordings a batch is made of: folders, patterns, lists and files."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

AUDIO_SUFFIXES = frozenset(
    ".aac .aif .aiff .flac .m4a .mka .mkv .mov .mp3 .mp4 .oga .ogg .opus .wav .webm .wma".split()
)
"""What a folder is searched for. A file that is named goes to the service whatever it is called."""

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list", ".manifest"})


def find(sources: Iterable[str]) -> list[Path]:
    """The recordings of all sources, each once, in order.

    Args:
        sources: a folder, searched with all below it; a pattern such as `calls/**/*.wav`; a list of
            paths, one a line, relative to the list's own folder; or a recording.

    Raises:
        click.UsageError: a source doesn't exist, or holds nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        paths = list(_of(source))
        found.update(dict.fromkeys(paths))
        if not paths:
            raise click.UsageError(f"'{source}' holds no recordings")
    return list(found)


def _of(source: str) -> Iterator[Path]:
    path = Path(source)
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
        yield from sorted(file for file in inside if file.is_file())
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        yield from _listed(path)
    elif path.is_file():
        yield path
    elif glob.has_magic(source):
        matches = sorted(glob.glob(source, recursive=True))
        yield from (Path(match) for match in matches if Path(match).is_file())
    else:
        raise click.UsageError(f"'{source}' doesn't exist")


def _listed(manifest: Path) -> Iterator[Path]:
    """Also what doesn't exist: it fails by itself, and is told with the other failures."""
    for line in manifest.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield manifest.parent / line.strip()
