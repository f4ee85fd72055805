"""Who is speaking, decided utterance by utterance: there is no later recording to cluster yet.

Each speaker is the mean of what was heard of them, and an utterance goes to the closest, or opens a
speaker when it is too far from all. In between lies doubt: such an utterance goes to the closest
speaker, who learns nothing from it; when a later one is far more like it than like any speaker, the
two become a speaker of their own.

A speaker whose voice was enrolled goes by that name from the utterance on at which they are known
for sure, by the same bound as in a recording (`api.services.known_speakers`); a name that was given
stays.

All bounds are shares of the embedding model's typical cosine between two windows of one speaker.
They were chosen on strung-together utterances of three voices that the network had never heard:
docs/streaming.md has the figures, next to those of a mixture model without the doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import MOST_SPEAKERS, unit_rows
from api.services.diarization import HOP_S
from api.services.known_speakers import KnownVoice, match

STRANGER, DOUBTFUL = 0.5, 0.7
"""Below the first an utterance is by somebody new; up to the second it is doubtful."""

PAIR_MARGIN = 0.3
"""How much closer to each other than to any speaker two doubtful utterances must be; a cosine."""

MIN_TELLING_S = 2.0
"""A shorter utterance says too little of a voice to open a speaker with, or to learn from, once
somebody is known: a cough must not become a ghost."""


@dataclass(frozen=True)
class _Heard:
    """A voice, of length one times how long it was heard, in seconds; float64, shape (dim,)."""

    weighted: NDArray[np.float64]
    duration_s: float

    def likeness(self, voice: NDArray[np.float64]) -> float:
        length = max(float(np.linalg.norm(self.weighted)), 1e-12)
        return float(self.weighted @ voice) / length

    def __add__(self, other: _Heard) -> _Heard:
        return _Heard(self.weighted + other.weighted, self.duration_s + other.duration_s)


class OnlineSpeakers:
    """The speakers of one stream: enrolled voices by name, the others "SPEAKER_00" onwards by first
    appearance."""

    def __init__(self, same_speaker_cosine: float, known: Sequence[KnownVoice] = ()) -> None:
        """Take the typical cosine between two windows of one speaker, in (0, 1), and the voices
        that were enrolled with the release that hears the stream."""
        self._cosine = same_speaker_cosine
        self._known = list(known)
        self._names: dict[int, str] = {}
        self._stranger = STRANGER * same_speaker_cosine
        self._doubtful = DOUBTFUL * same_speaker_cosine
        self._speakers: list[_Heard] = []
        self._doubts: list[_Heard] = []

    def assign(self, embedding: NDArray[np.float32], duration_s: float) -> str:
        """Name the speaker of the next utterance.

        Args:
            embedding: float32, shape (dim,), of any length.
            duration_s: how long the utterance is.
        """
        voice = unit_rows(embedding[None, :].astype(np.float64))[0]
        speaker = self._index(voice, _Heard(voice * duration_s, duration_s), duration_s)
        self._recognise()
        return self._names.get(speaker, f"SPEAKER_{speaker:02d}")

    def _recognise(self) -> None:
        """Give names to those who have none yet."""
        unnamed = [
            number
            for number, heard in enumerate(self._speakers)
            if number not in self._names and heard.duration_s >= MIN_TELLING_S
        ]
        if not unnamed or not self._known:
            return
        heard = [self._speakers[n] for n in unnamed]
        found = match(
            np.stack([h.weighted for h in heard]),
            np.array([h.duration_s / HOP_S for h in heard]),
            self._known,
            self._cosine,
        )
        for row, who in found.items():
            self._names[unnamed[row]] = who.name
        self._known = [k for k in self._known if k.name not in self._names.values()]

    def _index(self, voice: NDArray[np.float64], heard: _Heard, duration_s: float) -> int:
        if not self._speakers:
            return self._open(heard)
        closest, likeness = _closest(self._speakers, voice)
        if duration_s < MIN_TELLING_S:
            return closest
        if likeness >= self._doubtful:
            self._speakers[closest] += heard
            return closest
        if len(self._speakers) == MOST_SPEAKERS:
            return closest
        if likeness < self._stranger:
            return self._open(heard)
        if self._doubts:
            twin, twin_likeness = _closest(self._doubts, voice)
            if twin_likeness > likeness + PAIR_MARGIN:
                return self._open(heard + self._doubts.pop(twin))
        self._doubts.append(heard)
        return closest

    def _open(self, heard: _Heard) -> int:
        self._speakers.append(heard)
        return len(self._speakers) - 1


def _closest(among: list[_Heard], voice: NDArray[np.float64]) -> tuple[int, float]:
    likenesses = [heard.likeness(voice) for heard in among]
    best = int(np.argmax(likenesses))
    return best, likenesses[best]
