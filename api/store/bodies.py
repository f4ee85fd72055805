"""A stored analysis as text: one JSON document a line.

orjson and pydantic hold the interpreter's lock through a whole call: 0.4 s for the 12 MB of a
recording of 4 hours, in which no thread of the process goes on, whichever thread they are called
in. So the first line is the analysis with its first segments and turns, and each further line holds
some more of them; between two lines everybody else has their turn. Both functions belong in a
thread all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import orjson
from pydantic import TypeAdapter

from api.types import Analysis, Segment, Turn

PER_LINE = 50
"""Segments, and turns: some 2 ms of reading."""


@dataclass(frozen=True)
class _More:
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...]


_ANALYSIS = TypeAdapter(Analysis)
_MORE = TypeAdapter(_More)


def to_text(analysis: Analysis) -> str:
    return "\n".join(line.decode() for line in _lines(analysis))


def from_text(text: str) -> Analysis:
    """What `to_text` made, now or when everything still went into one line."""
    first, *further = text.split("\n")
    analysis = _ANALYSIS.validate_json(first)
    more = [_MORE.validate_json(line) for line in further]
    return replace(
        analysis,
        segments=(*analysis.segments, *chain.from_iterable(m.segments for m in more)),
        turns=(*analysis.turns, *chain.from_iterable(m.turns for m in more)),
    )


def _lines(analysis: Analysis) -> Iterator[bytes]:
    segments, turns = analysis.segments, analysis.turns
    yield orjson.dumps(replace(analysis, segments=segments[:PER_LINE], turns=turns[:PER_LINE]))
    for start in range(PER_LINE, max(len(segments), len(turns)), PER_LINE):
        here = slice(start, start + PER_LINE)
        yield orjson.dumps(_More(segments[here], turns[here]))
