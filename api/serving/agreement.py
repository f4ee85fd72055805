"""How far two versions of a model agree on the same audio: 1 is the same answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.services import emotion, whisper
from api.services.clustering import unit_rows
from api.services.whisper import Transcript
from api.serving.models import ServedModels

_NAMES = "zero one two three four five six seven eight nine".split()
_DIGITS = {str(digit): name for digit, name in enumerate(_NAMES)}


def agreement(model: str, answers: Sequence[Any], served: Sequence[ServedModels]) -> float:
    """Of two answers of a leaf, each with the releases that gave it; in [0, 1].

    whisper: 1 - word error rate; emotion: share of windows with the same likeliest label;
    speaker_embedding: mean cosine, 0 where the dimensions differ.
    """
    if model == whisper.SPEC.name:
        first, second = (words(text_of(answer)) for answer in answers)
        return max(0.0, 1.0 - word_error_rate(first, second))
    if model == emotion.SPEC.name:
        named = [
            [releases.emotion_labels[i] for i in rows.argmax(axis=1)]
            for rows, releases in zip(answers, served, strict=True)
        ]
        return float(np.mean([a == b for a, b in zip(*named, strict=True)]))
    return max(0.0, mean_cosine(*answers))


def text_of(transcripts: Sequence[Transcript]) -> str:
    return " ".join(segment.text for t in transcripts for segment in t.segments)


def words(text: str) -> list[str]:
    """Without case and punctuation; digits by their names, since models write them as they like."""
    spelled = "".join(f" {_DIGITS[c]} " if c in _DIGITS else c for c in text.casefold())
    kept = "".join(c if unicodedata.category(c)[0] in "LMN'" else " " for c in spelled)
    return re.findall(r"\S+", kept)


def word_error_rate(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Substitutions, deletions and insertions per word of the reference; of nothing, 0 or 1."""
    if not reference:
        return 1.0 if hypothesis else 0.0
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1] / len(reference)


def mean_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Of rows in pairs, float32, shape (n, dim)."""
    if first.shape != second.shape:
        return 0.0
    units = [unit_rows(rows.astype(np.float64)) for rows in (first, second)]
    return float(np.mean(np.sum(units[0] * units[1], axis=1)))
