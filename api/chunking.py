"""Speech regions → chunks of at most 30 s for Whisper, each with its map back to the recording.

Neighbouring regions share a chunk as long as they fit; where they don't, the cut goes through the
widest silence at hand. Long silences inside a chunk are shortened: a recording's text then doesn't
hang on how long people paused, fewer windows are decoded, and Whisper is never left alone with a
silence that it could fill with invented words. Each chunk knows exactly which stretches of the
recording it is made of, and so turns its own times back into the recording's.

All arithmetic is in whole samples, so that stretches meet without a gap or an overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from api.types import SAMPLE_RATE_HZ, Region, Waveform

MAX_CHUNK_S = 30.0
"""Whisper's window (Radford et al. 2022, section 2.2)."""

MAX_SILENCE_S = 1.0
"""Longer silence inside a chunk is shortened to this; half of it stays on either side."""

_ENERGY_FRAME_SAMPLES = 160
_ENERGY_SMOOTHING_FRAMES = 5
"""Where speech has to be split, its energy is looked at in frames of 10 ms, averaged over 50 ms:
about the length of a plosive's closure, the shortest pause there is."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the recording within a chunk; both positions and the length in samples."""

    chunk_start: int
    source_start: int
    length: int


@dataclass(frozen=True)
class Chunk:
    """One decoding window: `pieces` of the recording, joined in order without overlap.

    Attributes:
        speech: start and end of each stretch of speech in it, in samples of the recording.
    """

    pieces: tuple[Piece, ...]
    speech: tuple[tuple[int, int], ...]
    _recording: Waveform = field(repr=False, compare=False)

    @property
    def samples(self) -> NDArray[np.float32]:
        """The chunk's audio: float32, shape (n,), in [-1, 1], 16 kHz; read anew at each call."""
        parts = [
            self._recording.read(p.source_start, p.source_start + p.length) for p in self.pieces
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def duration_s(self) -> float:
        """Length of the chunk itself, with its silences shortened."""
        last = self.pieces[-1]
        return (last.chunk_start + last.length) / SAMPLE_RATE_HZ

    @property
    def start(self) -> float:
        """Where the chunk begins in the recording, in seconds."""
        return self.pieces[0].source_start / SAMPLE_RATE_HZ

    @property
    def end(self) -> float:
        """Where the chunk ends in the recording, in seconds."""
        last = self.pieces[-1]
        return (last.source_start + last.length) / SAMPLE_RATE_HZ

    def to_source(self, time_s: float, *, is_end: bool = False) -> float:
        """Time in the recording of a time in the chunk, clipped to the chunk.

        Exact and monotone. At a joint, where silence was taken out, one time in the chunk stands
        for two in the recording: the later one, or with `is_end` (the end of a word) the earlier.
        """
        starts = [piece.chunk_start for piece in self.pieces]
        position = round(time_s * SAMPLE_RATE_HZ, 3)  # a joint must not be missed by a rounding
        index = bisect_left(starts, position) if is_end else bisect_right(starts, position)
        piece = self.pieces[max(0, index - 1)]
        inside = min(max(position - piece.chunk_start, 0.0), float(piece.length))
        return (piece.source_start + inside) / SAMPLE_RATE_HZ

    def word_to_source(self, start_s: float, end_s: float) -> tuple[float, float]:
        """Start and end in the recording of a word in the chunk, without the silence around it.

        Nobody speaks a word across a silence that was taken out: one that lies over a joint is
        placed on the side that holds more of it. The silence that was kept is no part of a word
        that overlaps speech. Words in order stay in order.
        """
        first, last = start_s * SAMPLE_RATE_HZ, end_s * SAMPLE_RATE_HZ

        def shared(piece: Piece) -> float:
            return min(last, piece.chunk_start + piece.length) - max(first, piece.chunk_start)

        piece = max(self.pieces, key=shared)
        low, high = (
            piece.source_start + min(max(position - piece.chunk_start, 0.0), float(piece.length))
            for position in (first, last)
        )
        spoken = [(start, end) for start, end in self.speech if start < high and low < end]
        if spoken:
            low, high = max(low, spoken[0][0]), min(high, spoken[-1][1])
        return low / SAMPLE_RATE_HZ, high / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class _Span:
    """A stretch of speech in samples, at most one chunk long."""

    start: int
    end: int


def chunks(
    waveform: Waveform, regions: Sequence[Region], *, max_s: float = MAX_CHUNK_S
) -> list[Chunk]:
    """Cut a recording into chunks that hold every speech region's samples exactly once, in order.

    Args:
        waveform: the recording; the chunks refer to it and copy nothing.
        regions: its speech, in order and without overlap; what lies outside it is ignored.
        max_s: longest chunk, in seconds, at least 1.

    Raises:
        ValueError: the regions overlap or are out of order, or `max_s` is below 1.
    """
    if max_s < 1.0:
        raise ValueError("A chunk needs at least one second")
    max_samples = int(max_s * SAMPLE_RATE_HZ)
    spans: list[_Span] = []
    for span in _spans(waveform, regions):
        spans.extend(_split(waveform, span, max_samples))
    return [
        Chunk(_pieces(group), tuple((span.start, span.end) for span in group), waveform)
        for group in _groups(spans, max_samples)
    ]


def _spans(waveform: Waveform, regions: Sequence[Region]) -> list[_Span]:
    spans: list[_Span] = []
    previous_end = 0.0
    for region in regions:
        if region.start < previous_end or region.end < region.start:
            raise ValueError("Speech regions must be in order and must not overlap")
        previous_end = region.end
        start = round(region.start * SAMPLE_RATE_HZ)
        end = min(round(region.end * SAMPLE_RATE_HZ), waveform.num_samples)
        if start < end:
            spans.append(_Span(start, end))
    return spans


def _split(waveform: Waveform, span: _Span, max_samples: int) -> list[_Span]:
    """Split speech longer than a chunk at its quietest points."""
    parts: list[_Span] = []
    start = span.start
    while span.end - start > max_samples:
        cut = _quietest(waveform, start + 2 * max_samples // 3, start + max_samples)
        parts.append(_Span(start, cut))
        start = cut
    return [*parts, _Span(start, span.end)]


def _quietest(waveform: Waveform, first: int, last: int) -> int:
    """Position between two where 50 ms around it have the least energy."""
    count = (last - first) // _ENERGY_FRAME_SAMPLES
    stretch = waveform.read(first, first + count * _ENERGY_FRAME_SAMPLES)
    frames = stretch.reshape(count, _ENERGY_FRAME_SAMPLES)
    energy = np.square(frames).sum(axis=1)
    smooth = np.convolve(energy, np.ones(_ENERGY_SMOOTHING_FRAMES), mode="valid")
    centre = int(np.argmin(smooth)) + _ENERGY_SMOOTHING_FRAMES / 2
    return first + int(centre * _ENERGY_FRAME_SAMPLES)


def _groups(spans: Sequence[_Span], max_samples: int) -> list[list[_Span]]:
    """Distribute spans over chunks: as many as fit, cut at the widest late silence."""
    groups: list[list[_Span]] = []
    first = 0
    while first < len(spans):
        last = _cut(spans, first, max_samples)
        groups.append(list(spans[first:last]))
        first = last
    return groups


def _cut(spans: Sequence[_Span], first: int, max_samples: int) -> int:
    """Index of the span that begins the next chunk, when this one begins with span `first`.

    Only silences behind the chunk's middle count, so that chunks aren't cut small; the latest one
    wins among equals.
    """
    best: int | None = None
    widest = 0
    length = spans[first].end - spans[first].start
    for index in range(first + 1, len(spans)):
        silence = spans[index].start - spans[index - 1].end
        if length > max_samples // 2 and (best is None or silence >= widest):
            best, widest = index, silence
        length += _kept_silence(silence) + spans[index].end - spans[index].start
        if length > max_samples:
            return index if best is None else best
    return len(spans)


def _kept_silence(silence: int) -> int:
    return min(silence, int(MAX_SILENCE_S * SAMPLE_RATE_HZ))


def _pieces(spans: Sequence[_Span]) -> tuple[Piece, ...]:
    """Stretches of the recording that hold the spans, with longer silences taken out in between."""
    pieces: list[Piece] = []
    chunk_start, source_start = 0, spans[0].start
    for left, right in pairwise(spans):
        silence = right.start - left.end
        kept = _kept_silence(silence)
        if kept == silence:
            continue
        length = left.end + kept // 2 - source_start
        pieces.append(Piece(chunk_start, source_start, length))
        chunk_start, source_start = chunk_start + length, right.start - (kept - kept // 2)
    pieces.append(Piece(chunk_start, source_start, spans[-1].end - source_start))
    return tuple(pieces)
