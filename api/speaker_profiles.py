"""People whose voices were enrolled: what is kept of them. Never the audio."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SpeakerTake:
    """One recording of a voice, of which the mean embedding is kept.

    Attributes:
        speech_s: how long the voice was heard.
        windows: how many half overlapping windows the embedding was taken of.
        embedding: float32, shape (dim,), of length one.
        fingerprint: of the release of the speaker model; no other one's embeddings compare with it.
        version, checkpoint: of the same release, for people.
    """

    id: str
    created_at: datetime
    speech_s: float
    windows: int
    embedding: NDArray[np.float32] = field(repr=False, compare=False)
    fingerprint: str
    version: str
    checkpoint: str


@dataclass(frozen=True)
class SpeakerProfile:
    """A voice by its name, in one take or more."""

    id: str
    name: str
    created_at: datetime
    takes: tuple[SpeakerTake, ...]

    def is_usable(self, fingerprint: str) -> bool:
        """Whether a release of the speaker model can recognise this voice."""
        return any(take.fingerprint == fingerprint for take in self.takes)


@dataclass(frozen=True)
class ProfilesPage:
    """Newest first; `next_cursor` is None on the last page."""

    items: tuple[SpeakerProfile, ...]
    next_cursor: str | None
