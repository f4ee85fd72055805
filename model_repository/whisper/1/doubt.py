"""Signs that a text was invented: phrases that come round and round, and words nobody could say."""

from __future__ import annotations

import string
from collections.abc import Sequence

from segments import Segment, Word
from tokenization import APPENDED_PUNCTUATION, PREPENDED_PUNCTUATION

_LONGEST_PHRASE, _MIN_TIMES, _MIN_TOKENS = 10, 3, 8
"""A loop is a phrase of up to ten tokens, three times in a row or more, eight tokens in all."""

_MIN_PROBABILITY, _MIN_WORD_S, _MAX_WORD_S = 0.15, 0.133, 2.0
_FIRST_WORDS, _MANY = 8, 3.0
_SHORTNESS_WEIGHT = 15.0
"""All from openai-whisper (transcribe.py, `word_anomaly_score` and `is_segment_anomaly`)."""

_PUNCTUATION = {*string.punctuation, *PREPENDED_PUNCTUATION, *APPENDED_PUNCTUATION}


def loops(tokens: Sequence[int]) -> bool:
    """Whether a text says a phrase over and over.

    The compression ratio misses a loop at the end of a long text, and a short one.
    """
    for length in range(1, _LONGEST_PHRASE + 1):
        enough = max(_MIN_TIMES * length, _MIN_TOKENS) - length
        run = 0
        for earlier, token in zip(tokens, tokens[length:], strict=False):
            run = run + 1 if token == earlier else 0
            if run >= enough:
                return True
    return False


def is_anomalous(segment: Segment) -> bool:
    """Whether a segment's first words are too unlikely, too short or too long to have been said."""
    words = [word for word in segment.words if word.text.strip() not in _PUNCTUATION]
    words = words[:_FIRST_WORDS]
    score = sum(_anomaly(word) for word in words)
    return score >= _MANY or score + 0.01 >= len(words)


def _anomaly(word: Word) -> float:
    duration_s = word.end_s - word.start_s
    unlikely = 1.0 if word.probability < _MIN_PROBABILITY else 0.0
    too_short = max(0.0, _MIN_WORD_S - duration_s) * _SHORTNESS_WEIGHT
    return unlikely + too_short + max(0.0, duration_s - _MAX_WORD_S)
