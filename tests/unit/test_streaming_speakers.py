"""Speakers told apart utterance by utterance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from api.services.known_speakers import KnownVoice, Voice
from api.streaming.speakers import OnlineSpeakers

COSINE = 0.5


def said(voice: int, seed: int) -> NDArray[np.float32]:
    """An utterance of a voice: half of its variance is the voice, half is noise."""
    own = np.random.default_rng(1000 + voice).normal(size=192)
    noise = np.random.default_rng(seed).normal(size=192)
    mixed = np.sqrt(COSINE) * own + np.sqrt(1 - COSINE) * noise
    return np.asarray(7.3 * mixed, np.float32)


def test_voices_are_kept_apart_across_utterances() -> None:
    speakers = OnlineSpeakers(COSINE)
    order = [0, 1, 0, 2, 1, 0, 2, 2, 1, 0]
    names = [speakers.assign(said(voice, seed), 3.0) for seed, voice in enumerate(order)]
    assert names == [f"SPEAKER_{voice:02d}" for voice in order]


def test_one_voice_stays_one_speaker() -> None:
    speakers = OnlineSpeakers(COSINE)
    assert {speakers.assign(said(0, seed), 2.0) for seed in range(40)} == {"SPEAKER_00"}


def test_something_short_opens_no_speaker_once_somebody_is_known() -> None:
    speakers = OnlineSpeakers(COSINE)
    speakers.assign(said(0, 1), 2.0)
    assert speakers.assign(said(1, 2), 0.4) == "SPEAKER_00"
    assert speakers.assign(said(1, 3), 2.0) == "SPEAKER_01"


def test_a_doubtful_voice_gets_a_name_once_it_is_heard_again() -> None:
    """Like the first speaker by a third, the second time most like itself."""
    first, other = (np.eye(8, dtype=np.float32)[n] for n in (0, 1))
    doubtful = 0.32 * first + np.float32(np.sqrt(1 - 0.32**2)) * other
    speakers = OnlineSpeakers(COSINE)
    spoken = [first, doubtful, first, doubtful, first, doubtful]
    names = [speakers.assign(voice, 3.0) for voice in spoken]
    assert names == [f"SPEAKER_{n:02d}" for n in (0, 0, 0, 1, 0, 1)]


def test_the_first_utterance_opens_a_speaker_however_short() -> None:
    assert OnlineSpeakers(COSINE).assign(said(0, 1), 0.2) == "SPEAKER_00"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_length_of_an_embedding_says_nothing(scale: float) -> None:
    speakers = OnlineSpeakers(COSINE)
    speakers.assign(said(0, 1), 2.0)
    assert speakers.assign(np.float32(scale) * said(0, 2), 2.0) == "SPEAKER_00"


def enrolled(name: str, voice: int) -> KnownVoice:
    return KnownVoice(name, Voice.of(np.stack([said(voice, 500 + n) for n in range(6)])))


def test_an_enrolled_voice_goes_by_its_name_and_a_stranger_does_not() -> None:
    speakers = OnlineSpeakers(COSINE, [enrolled("Ann", 1), enrolled("Bea", 7)])
    order = [0, 1, 2, 1, 0, 2]
    names = [speakers.assign(said(voice, seed), 3.0) for seed, voice in enumerate(order)]
    assert names == ["SPEAKER_00", "Ann", "SPEAKER_02", "Ann", "SPEAKER_00", "SPEAKER_02"]


def test_one_name_is_one_speakers_and_stays() -> None:
    """Two speakers of a stream by one name would be one to whoever reads along."""
    ann = enrolled("Ann", 0)
    speakers = OnlineSpeakers(COSINE, [ann])
    assert speakers.assign(said(0, 1), 1.0) == "SPEAKER_00", "too little to be sure of a name"
    assert speakers.assign(said(0, 2), 4.0) == "Ann"
    assert speakers.assign(said(1, 3), 4.0) == "SPEAKER_01"
    later = [speakers.assign(said(voice, 10 + n), 4.0) for n, voice in enumerate([0, 1] * 4)]
    assert later == ["Ann", "SPEAKER_01"] * 4
