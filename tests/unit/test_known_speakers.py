"""Known voices are recognised, and nobody else is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import pytest
from numpy.typing import NDArray

from api.services.clustering import likeness
from api.services.known_speakers import KnownVoice, Voice, recognise, usable
from api.services.voice_track import VoiceTrack
from api.speaker_profiles import SpeakerProfile, SpeakerTake

ENROLLED = datetime(2026, 1, 2, tzinfo=timezone.utc)


def voices(*directions: Sequence[float]) -> NDArray[np.float32]:
    return np.array(directions, np.float32)


def track(*speakers: Sequence[float], windows: int = 2) -> VoiceTrack:
    """Speakers with these voices, each heard in so many windows."""
    return VoiceTrack(
        tuple(f"SPEAKER_{number:02d}" for number in range(len(speakers))),
        np.arange(2.0),
        np.ones((2, len(speakers))),
        np.array(speakers, dtype=np.float64),
        np.full(len(speakers), float(windows)),
    )


def known(**people: Sequence[float]) -> list[KnownVoice]:
    return [KnownVoice(name, Voice.of(voices(voice))) for name, voice in people.items()]


def test_a_stranger_stays_a_stranger() -> None:
    heard = track([9, 1, 0], [0, 6, 0.1])
    assert [who.name for who in recognise(heard, known(anna=[1, 0, 0]), 0.5).values()] == ["anna"]
    assert recognise(heard, known(bea=[0, 0, 1]), 0.5) == {}
    assert recognise(heard, [], 0.5) == {}


def test_short_references_need_less_likeness() -> None:
    """Noise keeps short stretches of one voice apart: a fixed threshold would refuse them all."""
    one, other = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])
    short, long = np.array([1.0]), np.array([17.0])
    assert likeness(one, short, other, long, 0.5) == pytest.approx(0.6 / np.sqrt(0.5 * 0.9))
    assert likeness(one, long, other, long, 0.5) == pytest.approx(0.6 / 0.9)


def test_a_name_goes_to_the_closest_speaker_only() -> None:
    """Two people who both resemble the reference must not become one."""
    heard = track([0.8, 0.6, 0], [1, 0.1, 0], windows=1)
    found = recognise(heard, known(anna=[1, 0, 0], bea=[0, 0, 1]), 0.5)
    assert {speaker: who.name for speaker, who in found.items()} == {"SPEAKER_01": "anna"}


def take(embedding: Sequence[float], windows: int, fingerprint: str) -> SpeakerTake:
    unit = voices(embedding)[0]
    return SpeakerTake("t", ENROLLED, 4.0, windows, unit, fingerprint, "1", "bundled")


def test_takes_of_another_release_say_nothing() -> None:
    """Embeddings of two releases lie in different spaces: comparing them names strangers."""
    anna = SpeakerProfile("a", "anna", ENROLLED, (take([1, 0], 4, "new"), take([0, 1], 4, "old")))
    bea = SpeakerProfile("b", "bea", ENROLLED, (take([0, 1], 4, "old"),))
    (usable_now,) = usable([anna, bea], "new")
    assert (usable_now.name, usable_now.profile_id) == ("anna", "a")
    assert usable_now.voice.direction.tolist() == [1.0, 0.0]
    assert anna.is_usable("new") and not bea.is_usable("new")


def test_takes_count_by_their_length() -> None:
    anna = SpeakerProfile("a", "anna", ENROLLED, (take([1, 0], 9, "x"), take([0, 1], 1, "x")))
    (heard,) = usable([anna], "x")
    assert heard.voice.windows == 10
    assert heard.voice.direction == pytest.approx(np.array([9, 1]) / np.sqrt(82))
