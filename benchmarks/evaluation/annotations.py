"""What people wrote down about a recording: RTTM, word times, emotions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import UsageError


@dataclass(frozen=True)
class Turn:
    """One stretch of one speaker, seconds."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True)
class Word:
    """One word and when it was spoken, seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Feeling:
    """An emotion and when it was heard, seconds."""

    start: float
    end: float
    label: str


def read_rttm(path: Path, name: str) -> list[Turn]:
    """The SPEAKER lines of an RTTM.

    Format: https://catalog.ldc.upenn.edu/docs/LDC2004T12/RTTM-format-v13.pdf

    Args:
        name: which recording, for a file that describes several.

    Raises:
        UsageError: the file can't be read, or holds nothing of this recording.
    """
    lines = [line.split() for line in _text(path).splitlines() if line.startswith("SPEAKER ")]
    names = {fields[1] for fields in lines}
    try:
        turns = [
            Turn(float(fields[3]), float(fields[3]) + float(fields[4]), fields[7])
            for fields in lines
            if len(names) == 1 or fields[1] == name
        ]
    except (IndexError, ValueError) as error:
        raise UsageError(f"{path} is no RTTM: {error}") from error
    if not turns:
        raise UsageError(f"{path} has no SPEAKER line for '{name}'")
    return turns


def read_words(path: Path, name: str) -> list[Word]:
    """Words with their times: `.ctm`, or JSON `[{"word", "start", "end"}, …]`.

    Raises:
        UsageError: the file can't be read.
    """
    try:
        if path.suffix == ".json":
            words = [Word(str(w["word"]), float(w["start"]), float(w["end"])) for w in _json(path)]
        else:
            lines = [x.split() for x in _text(path).splitlines() if not x.startswith(";;")]
            lines = [fields for fields in lines if fields]
            names = {fields[0] for fields in lines}
            words = [
                Word(fields[4], float(fields[2]), float(fields[2]) + float(fields[3]))
                for fields in lines
                if len(names) == 1 or fields[0] == name
            ]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not words with times: {error!r}") from error
    return sorted(words, key=lambda word: word.start)


def read_feelings(path: Path) -> list[Feeling]:
    """Emotions with their times: JSON `[{"start", "end", "label"}, …]`.

    Raises:
        UsageError: the file can't be read.
    """
    try:
        return [Feeling(float(f["start"]), float(f["end"]), str(f["label"])) for f in _json(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not emotions with times: {error!r}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error


def _json(path: Path) -> Any:
    return json.loads(_text(path))
