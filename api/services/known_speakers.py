"""Speakers of a recording get the names of people whose voices are known.

Known voices come from the profiles that were enrolled (`api.speaker_profiles`) or along with a
request. Two voices are compared by the cosine of their mean embeddings, in relation to the one
that stretches of these lengths by a single voice typically have; each name goes to the one speaker
that is closest, if any is close enough. Everybody else stays a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import likeness, unit_rows
from api.services.voice_track import VoiceTrack
from api.speaker_profiles import SpeakerProfile
from api.types import Identity

SAME_VOICE = 0.8
"""Share of the typical cosine that makes two stretches one voice. Measured on the bundled network
with three voices kept out of its training, 3 s against 5 s of speech (5 s against 10 s): 21% (15%)
of them weren't recognised, and 9% (6%) of pairs with a stranger were taken for one person."""


@dataclass(frozen=True, eq=False)
class Voice:
    """What is known of a person's voice.

    Attributes:
        direction: mean embedding, float64, shape (dim,), of length one.
        windows: how many half overlapping windows it was taken of.
    """

    direction: NDArray[np.float64]
    windows: int

    @classmethod
    def of(cls, embeddings: NDArray[np.float32]) -> Voice:
        """The voice in half overlapping windows: embeddings float32, shape (n, dim), n ≥ 1."""
        mean = unit_rows(embeddings.astype(np.float64)).mean(axis=0, keepdims=True)
        return cls(np.asarray(unit_rows(mean)[0], np.float64), len(embeddings))

    @classmethod
    def joined(cls, takes: Sequence[Voice]) -> Voice:
        """One voice from several takes, at least one, each with the weight of its windows."""
        total = np.sum([take.direction * take.windows for take in takes], axis=0, keepdims=True)
        return cls(unit_rows(total)[0], sum(take.windows for take in takes))


@dataclass(frozen=True)
class KnownVoice:
    """Somebody's voice, by name; `profile_id` is None for one that came along with a request."""

    name: str
    voice: Voice
    profile_id: str | None = None


def usable(profiles: Sequence[SpeakerProfile], fingerprint: str) -> list[KnownVoice]:
    """The enrolled voices that a release of the speaker model can recognise."""
    found = []
    for profile in profiles:
        takes = [
            Voice(take.embedding.astype(np.float64), take.windows)
            for take in profile.takes
            if take.fingerprint == fingerprint
        ]
        if takes:
            found.append(KnownVoice(profile.name, Voice.joined(takes), profile.id))
    return found


def recognise(
    track: VoiceTrack, known: Sequence[KnownVoice], same_speaker_cosine: float
) -> dict[str, Identity]:
    """Who the track's speakers are, by the track's names; strangers are left out.

    Args:
        track: the speakers of a recording.
        known: voices of the same release of the speaker model.
        same_speaker_cosine: typical cosine between two windows of one speaker, in (0, 1).
    """
    found = match(track.voices, track.windows, known, same_speaker_cosine)
    return {track.names[speaker]: who for speaker, who in found.items()}


def match(
    voices: NDArray[np.float64],
    windows: NDArray[np.float64],
    known: Sequence[KnownVoice],
    same_speaker_cosine: float,
) -> dict[int, Identity]:
    """Who the voices are, by their row; each person is one of them at most.

    Args:
        voices: means or sums of embeddings, shape (k, dim), k ≥ 1.
        windows: how many half overlapping windows each was taken of, shape (k,).
        known, same_speaker_cosine: see `recognise`.
    """
    if not known:
        return {}
    alike = likeness(
        voices,
        windows,
        np.stack([k.voice.direction for k in known]),
        np.array([k.voice.windows for k in known], dtype=np.float64),
        same_speaker_cosine,
    )
    found: dict[int, Identity] = {}
    while alike.max() >= SAME_VOICE:
        speaker, who = (int(i) for i in np.unravel_index(alike.argmax(), alike.shape))
        person = known[who]
        found[speaker] = Identity(person.name, person.profile_id, float(alike[speaker, who]))
        alike[speaker, :] = alike[:, who] = -np.inf
    return found
