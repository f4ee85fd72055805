"""Loops in a transcript: Whisper, when lost, says the same phrase over and over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST_PHRASE = 10
"""Words; longer phrases are seldom repeated by a decoder, and often by a person who reads."""

MIN_TIMES = 3
MIN_WORDS = 8
"""A loop says a phrase at least three times and has at least eight words: "no no no" is none, and
of random digits one word in a million begins one."""


def repetition(words: Sequence[str]) -> float:
    """Share of the words, 0 to 1, that lie in a phrase said over and over without a break."""
    if not words:
        return 0.0
    plain = [word.casefold().strip(".,;:!?…\"'-–—()") for word in words]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(plain))}
    said = np.array([numbers[word] for word in plain], np.int64)
    looped = np.zeros(len(said), bool)
    for phrase in range(1, min(LONGEST_PHRASE, len(said) - 1) + 1):
        for start, end in _runs(said[phrase:] == said[:-phrase]):
            if end - start + phrase >= max(MIN_TIMES * phrase, MIN_WORDS):
                looped[start : end + phrase] = True
    return float(looped.mean())


def _runs(holds: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of each run of true."""
    edges = np.diff(np.concatenate(([False], holds, [False])).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
