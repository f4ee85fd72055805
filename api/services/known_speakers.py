"""Turns of diarized speakers get the names of people whose voices the caller gave.

Two stretches of speech are compared by the cosine of their mean embeddings, in relation to the one
that stretches of these lengths by a single voice typically have; each name goes to the one speaker
that is closest, if any is close enough. Everybody else stays a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import unit_rows
from api.services.windows import Window
from api.types import Turn

SAME_VOICE = 0.8
"""Share of the typical cosine that makes two stretches one voice. Measured on the bundled network
with three voices kept out of its training, 3 s against 5 s of speech (5 s against 10 s): 21% (15%)
of them weren't recognised, and 9% (6%) of pairs with a stranger were taken for one person."""


@dataclass(frozen=True)
class Voice:
    """A stretch of one person's speech.

    Attributes:
        direction: its mean embedding, float64, shape (dim,), of length one.
        windows: how many windows it would take without their overlap.
    """

    direction: NDArray[np.float64]
    windows: float

    @classmethod
    def of(cls, embeddings: NDArray[np.float32]) -> Voice:
        """The voice in half overlapping windows: embeddings float32, shape (n, dim), n ≥ 1."""
        mean = unit_rows(embeddings.astype(np.float64)).mean(axis=0, keepdims=True)
        return cls(np.asarray(unit_rows(mean)[0], np.float64), (len(embeddings) + 1) / 2)

    def likeness(self, other: Voice, same_speaker_cosine: float) -> float:
        """Cosine of the two, over the one that is typical of a single voice.

        An embedding is taken for a share `same_speaker_cosine` of voice and the rest noise, as
        `api.services.clustering` does; the noise fades as windows are averaged.
        """
        share = same_speaker_cosine
        purity = [share / (share + (1 - share) / v.windows) for v in (self, other)]
        return float(self.direction @ other.direction) / sqrt(purity[0] * purity[1])


def recognise(
    turns: Sequence[Turn],
    cut: Sequence[Window],
    embeddings: NDArray[np.float32],
    known: Mapping[str, Voice],
    same_speaker_cosine: float,
) -> list[Turn]:
    """The turns, with known speakers by their names.

    Args:
        turns: what `api.services.diarization.turns` drew.
        cut, embeddings: the windows it drew them from, float32, shape (len(cut), dim).
        known: voices by name.
        same_speaker_cosine: typical cosine between two windows of one speaker, in (0, 1).
    """
    likenesses = [
        (voice.likeness(reference, same_speaker_cosine), speaker, name)
        for speaker, voice in _voices(turns, cut, embeddings).items()
        for name, reference in known.items()
    ]
    names: dict[str, str] = {}
    for likeness, speaker, name in sorted(likenesses, reverse=True):
        if likeness < SAME_VOICE:
            break
        if speaker not in names and name not in names.values():
            names[speaker] = name
    return [replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns]


def _voices(
    turns: Sequence[Turn], cut: Sequence[Window], embeddings: NDArray[np.float32]
) -> dict[str, Voice]:
    """Each speaker's voice, from the windows whose centres lie in one of its turns."""
    rows: dict[str, list[int]] = {}
    for index, window in enumerate(cut):
        for turn in turns:
            if turn.start <= window.centre_s <= turn.end:
                rows.setdefault(turn.speaker, []).append(index)
                break
    return {speaker: Voice.of(embeddings[chosen]) for speaker, chosen in rows.items()}
