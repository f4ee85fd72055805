"""Decoded tokens to timed segments, and segments to timed words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from generation import TIMESTAMP_S, SpecialTokens
from tokenization import WhisperTokenizer, WordTokens

_SNAP_S = 0.5
"""Farther apart than this, attention and the segment's timestamp mean different moments
(openai-whisper, `add_word_timestamps`)."""


@dataclass(frozen=True)
class Word:
    """A word with the space before it, its times, and its tokens' mean probability."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """Text between two timestamps.

    Attributes:
        tokens: with the timestamps around it; `text_tokens` and `probabilities`: of its text alone.
    """

    start_s: float
    end_s: float
    tokens: tuple[int, ...]
    text_tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    words: tuple[Word, ...] = ()


def split_segments(
    tokens: Sequence[int], logprobs: Sequence[float], special: SpecialTokens, duration_s: float
) -> list[Segment]:
    """Cuts decoded tokens at their timestamps.

    Text before the first timestamp begins at 0, text after the last one ends with the audio. Times
    beyond the audio are clamped, and text that begins beyond it, which only padding can have said,
    is dropped.
    """
    segments: list[Segment] = []
    start_s = 0.0
    pending: list[int] = []
    spoken: list[tuple[int, float]] = []

    def close(end_s: float) -> None:
        if spoken and start_s < duration_s:
            text, probabilities = zip(*spoken, strict=True)
            end_s = min(max(end_s, start_s), duration_s)
            segments.append(Segment(start_s, end_s, tuple(pending), text, probabilities))

    for token, logprob in zip(tokens, logprobs, strict=True):
        pending.append(token)
        if token < special.end_of_text:
            spoken.append((token, float(np.exp(logprob))))
        elif token >= special.timestamp_begin:
            time_s = (token - special.timestamp_begin) * TIMESTAMP_S
            if spoken:
                close(time_s)
                pending, spoken = [], []
            else:
                pending = [token]
            start_s = time_s
    close(duration_s)
    return segments


def add_words(
    segments: Sequence[Segment],
    times_s: NDArray[np.float64],
    tokenizer: WhisperTokenizer,
    language: str,
) -> list[Segment]:
    """Gives each segment its words.

    times_s: when each text token of all segments begins, and the end of the last one: (text tokens
    + 1,). Word times never decrease and lie inside their segment.
    """
    timed: list[Segment] = []
    offset = 0
    for segment in segments:
        words = tokenizer.split_words(segment.text_tokens, language)
        firsts = np.cumsum([0, *(len(word.tokens) for word in words)])
        bounds_s = _spread(_snapped(times_s[offset + firsts], segment), words)
        timed.append(replace(segment, words=_timed_words(words, firsts, segment, bounds_s)))
        offset += len(segment.text_tokens)
    return timed


def _snapped(bounds_s: NDArray[np.float64], segment: Segment) -> NDArray[np.float64]:
    """Clamps word bounds into the segment, and moves the outer two onto its ends if near."""
    inside = np.clip(bounds_s, segment.start_s, segment.end_s)
    if inside[0] - segment.start_s <= _SNAP_S:
        inside[0] = segment.start_s
    if segment.end_s - inside[-1] <= _SNAP_S:
        inside[-1] = segment.end_s
    return inside


def _spread(bounds_s: NDArray[np.float64], words: Sequence[WordTokens]) -> NDArray[np.float64]:
    """Lets words that attention left in one instant share their neighbour's time by length."""
    spread = bounds_s.copy()
    letters = np.cumsum([0, *(max(1, len(word.text)) for word in words)])
    owners = np.flatnonzero(np.diff(bounds_s) > 0)
    for place, owner in enumerate(owners):
        first = owner if place else 0
        last = owners[place + 1] if place + 1 < len(owners) else len(words)
        shares = (letters[first : last + 1] - letters[first]) / (letters[last] - letters[first])
        begin_s, end_s = bounds_s[first], bounds_s[last]
        spread[first : last + 1] = begin_s + shares * (end_s - begin_s)
    return np.clip(spread, bounds_s[0], bounds_s[-1])  # a sum's rounding may lie outside


def _timed_words(
    words: Sequence[WordTokens],
    firsts: NDArray[np.intp],
    segment: Segment,
    bounds_s: NDArray[np.float64],
) -> tuple[Word, ...]:
    return tuple(
        Word(
            text=word.text,
            start_s=float(bounds_s[index]),
            end_s=float(bounds_s[index + 1]),
            probability=float(np.mean(segment.probabilities[firsts[index] : firsts[index + 1]])),
        )
        for index, word in enumerate(words)
    )
