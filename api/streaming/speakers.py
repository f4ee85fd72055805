"""Who is speaking, decided utterance by utterance: there is no later recording to cluster yet.

The model of a voice is the one of `api.services.clustering`: an embedding of length one is the
speaker's voice plus noise, and `same_speaker_cosine` says how much of it is voice. So whether an
utterance is one of the known speakers or somebody new is a ratio of two likelihoods, the two
hypotheses of PLDA (Ioffe, ECCV 2006) with isotropic covariances, and needs no threshold of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import MOST_SPEAKERS, unit_rows

MIN_NEW_S = 0.8
"""A shorter utterance says too little of a voice to open a speaker with, or to learn from, once
somebody is known: a cough must not become a ghost."""


class OnlineSpeakers:
    """The speakers of one stream, "SPEAKER_00" onwards by first appearance."""

    def __init__(self, same_speaker_cosine: float) -> None:
        """Take the typical cosine between two stretches of one speaker, in (0, 1)."""
        self._share = same_speaker_cosine
        self._sums: list[NDArray[np.float64]] = []
        self._counts: list[int] = []

    def assign(self, embedding: NDArray[np.float32], duration_s: float) -> str:
        """Name the speaker of the next utterance.

        Args:
            embedding: float32, shape (dim,), of any length.
            duration_s: how long the utterance is.
        """
        voice = unit_rows(embedding[None, :].astype(np.float64))[0]
        known = [self._log_ratio(voice, k) for k in range(len(self._sums))]
        best = int(np.argmax(known)) if known else -1
        is_short = duration_s < MIN_NEW_S
        if best < 0 or (known[best] < 0 and not is_short and len(known) < MOST_SPEAKERS):
            self._sums.append(voice)
            self._counts.append(1)
            best = len(self._sums) - 1
        elif not is_short:
            self._sums[best] = self._sums[best] + voice
            self._counts[best] += 1
        return f"SPEAKER_{best:02d}"

    def _log_ratio(self, voice: NDArray[np.float64], speaker: int) -> float:
        """Log likelihood, per dimension pair, of a known speaker over that of somebody new."""
        share, count = self._share, self._counts[speaker]
        ratio = share / (1 - share)
        mean = ratio * self._sums[speaker] / (1 + count * ratio)
        variance = 1 - share + share / (1 + count * ratio)
        distance = float(np.square(voice - mean).sum())
        return -float(np.log(variance)) - distance / variance + float(np.square(voice).sum())
