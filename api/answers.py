"""An analysis as the JSON that callers get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from api.schemas import SegmentResponse, TurnResponse, to_response
from api.types import Analysis, Segment, Turn

_PER_PIECE = 50
_SEGMENTS = TypeAdapter(list[SegmentResponse])
_TURNS = TypeAdapter(list[TurnResponse])


def to_json(analysis: Analysis) -> bytes:
    """`api.schemas.AudioResponse` as JSON; call it in a thread.

    It is made in pieces of some 2 ms: pydantic holds the interpreter's lock through a call, and the
    answer for 4 hours takes 0.7 s.
    """
    rest = to_response(replace(analysis, segments=(), turns=()))
    rest = rest.model_copy(update={"transcription": analysis.transcription})
    content = rest.model_dump_json(exclude={"segments", "turns"}).encode()
    segments = b",".join(_segment_pieces(analysis.segments))
    turns = b",".join(_turn_pieces(analysis.turns))
    return b'%b,"segments":[%b],"turns":[%b]}' % (content[:-1], segments, turns)


def _segment_pieces(segments: Sequence[Segment]) -> Iterator[bytes]:
    for start in range(0, len(segments), _PER_PIECE):
        piece = [
            SegmentResponse.of(number, segment)
            for number, segment in enumerate(segments[start : start + _PER_PIECE], start)
        ]
        yield _SEGMENTS.dump_json(piece)[1:-1]


def _turn_pieces(turns: Sequence[Turn]) -> Iterator[bytes]:
    for start in range(0, len(turns), _PER_PIECE):
        piece = [TurnResponse.model_validate(turn) for turn in turns[start : start + _PER_PIECE]]
        yield _TURNS.dump_json(piece)[1:-1]
