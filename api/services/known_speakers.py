"""Turns of diarized speakers get the names of people whose voices the caller gave.

A speaker goes by the name of the reference that is closest, if the cosine of their mean voices is
at least the one that two windows of a single speaker typically have (the embedding model's
`same_speaker_cosine`): means of several windows lie closer together than windows do, so people who
are known pass and strangers hardly do. Each name goes to one speaker. Everybody else stays a
stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import unit_rows
from api.services.diarization import Window
from api.types import Turn


def mean_voice(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Direction of a voice, shape (dim,), of length one, from at least one embedding, (n, dim)."""
    mean: NDArray[np.float64] = unit_rows(embeddings.astype(np.float64)).mean(axis=0)
    return np.asarray(unit_rows(mean[None, :])[0], np.float64)


def recognise(
    turns: Sequence[Turn],
    cut: Sequence[Window],
    embeddings: NDArray[np.float32],
    known: Mapping[str, NDArray[np.float64]],
    same_speaker_cosine: float,
) -> list[Turn]:
    """The turns, with known speakers by their names.

    Args:
        turns: what `api.services.diarization.turns` drew.
        cut, embeddings: the windows it drew them from, float32, shape (len(cut), dim).
        known: mean voices, shape (dim,), by name.
        same_speaker_cosine: the least that a speaker and a reference must have in common.
    """
    voices = _voices(turns, cut, embeddings)
    pairs = [
        (float(voice @ reference), speaker, name)
        for speaker, voice in voices.items()
        for name, reference in known.items()
    ]
    names: dict[str, str] = {}
    for cosine, speaker, name in sorted(pairs, reverse=True):
        if cosine < same_speaker_cosine:
            break
        if speaker not in names and name not in names.values():
            names[speaker] = name
    return [replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns]


def _voices(
    turns: Sequence[Turn], cut: Sequence[Window], embeddings: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Mean voice of each speaker, over the windows whose centres lie in one of its turns."""
    rows: dict[str, list[int]] = {}
    for index, window in enumerate(cut):
        for turn in turns:
            if turn.start <= window.centre_s <= turn.end:
                rows.setdefault(turn.speaker, []).append(index)
                break
    return {speaker: mean_voice(embeddings[chosen]) for speaker, chosen in rows.items()}
