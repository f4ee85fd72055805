"""Decoded tokens to timed segments, and segments to timed words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from generation import TIMESTAMP_S, SpecialTokens
from numpy.typing import NDArray
from tokenization import WhisperTokenizer, WordTokens


@dataclass(frozen=True)
class Word:
    """A word with the space before it, its times in seconds, and the mean probability of its
    tokens."""

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
        count = len(segment.text_tokens)
        own = np.clip(times_s[offset : offset + count + 1], segment.start_s, segment.end_s)
        timed.append(replace(segment, words=_timed_words(words, segment, own)))
        offset += count
    return timed


def _timed_words(
    words: Sequence[WordTokens], segment: Segment, times_s: NDArray[np.float64]
) -> tuple[Word, ...]:
    result: list[Word] = []
    first = 0
    for word in words:
        after = first + len(word.tokens)
        probability = float(np.mean(segment.probabilities[first:after]))
        start_s, end_s = float(times_s[first]), float(times_s[after])
        result.append(Word(word.text, start_s, end_s, probability))
        first = after
    return tuple(result)
