"""The list of labelled recordings: JSON lines, paths relative to the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import UsageError
from benchmarks.evaluation.annotations import (
    Feeling,
    Turn,
    Word,
    read_feelings,
    read_rttm,
    read_words,
)

FIELDS: Final = {
    "audio": "path of the recording; the only field that must be there",
    "id": "name in the report; default: the audio's file name without its ending",
    "text": "what is said",
    "rttm": "path of an RTTM: who speaks when",
    "words": 'path of word times: .ctm, or JSON [{"word", "start", "end"}, …]',
    "emotion": "how the whole recording sounds",
    "emotions": 'path of emotions with times: JSON [{"start", "end", "label"}, …]',
    "num_speakers": "told to the service, where it is known beforehand",
    "language": "told to the service",
    "conditions": "an object of anything to group results by (--by)",
}

_SHOWN_ERRORS: Final = 10


@dataclass(frozen=True)
class Labelled:
    """One recording and what is known about it; None where it isn't."""

    id: str
    audio: Path
    text: str | None
    turns: list[Turn] | None
    words: list[Word] | None
    emotion: str | None
    feelings: list[Feeling] | None
    num_speakers: int | None
    language: str | None
    conditions: Mapping[str, Any]


def read_manifest(path: Path) -> list[Labelled]:
    """The recordings of a manifest.

    Raises:
        UsageError: something in it can't be used; the message names up to ten such lines.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the manifest can't be read: {error}") from error
    labelled: list[Labelled] = []
    errors: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            labelled.append(_read(line, path.parent))
        except UsageError as error:
            errors.append(f"{path}:{number}: {error}")
    names = [x.id for x in labelled]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        errors.append(f"{path}: several recordings are called {', '.join(doubled[:3])}")
    if errors:
        rest = len(errors) - _SHOWN_ERRORS
        more = [f"and {rest} more"] if rest > 0 else []
        raise UsageError("\n".join([*errors[:_SHOWN_ERRORS], *more]))
    if not labelled:
        raise UsageError(f"{path} lists no recording")
    return labelled


def _read(line: str, folder: Path) -> Labelled:
    row = _fields(line)
    audio = folder / row["audio"]
    if not audio.is_file():
        raise UsageError(f"there is no {audio}")
    name = row.get("id", audio.stem)
    count = row.get("num_speakers")
    if count is not None and (type(count) is not int or count < 1):
        raise UsageError(f"num_speakers is {count!r}, not a number of people")
    return Labelled(
        id=name,
        audio=audio,
        text=row.get("text"),
        turns=read_rttm(folder / row["rttm"], name) if "rttm" in row else None,
        words=read_words(folder / row["words"], name) if "words" in row else None,
        emotion=row.get("emotion"),
        feelings=read_feelings(folder / row["emotions"]) if "emotions" in row else None,
        num_speakers=count,
        language=row.get("language"),
        conditions=row.get("conditions", {}),
    )


def _fields(line: str) -> dict[str, Any]:
    """The row without its nulls, its types checked."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError("not a JSON object")
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        raise UsageError(f"unknown field {', '.join(unknown)}; known are {', '.join(FIELDS)}")
    row = {name: value for name, value in row.items() if value is not None}
    if "audio" not in row:
        raise UsageError("the field audio is missing")
    for name in set(row) - {"num_speakers", "conditions"}:
        if not isinstance(row[name], str):
            raise UsageError(f"{name} is {row[name]!r}, not a string")
    if not isinstance(row.get("conditions", {}), dict):
        raise UsageError("conditions is no object")
    return row
