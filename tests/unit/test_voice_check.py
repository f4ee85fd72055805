"""Voices and notes, through the network that ships."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from api.networks import ASSETS
from api.types import SAMPLE_RATE_HZ, Waveform
from api.voice_check import VoiceCheck
from tests.integration.audio_files import digits

DIGITS = digits()


@pytest.fixture(scope="module")
def check() -> VoiceCheck:
    return VoiceCheck()


def note(pitch_hz: float, duration_s: float = 0.5) -> NDArray[np.float32]:
    time = np.arange(int(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    waves = [np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, 9)]
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    return (0.1 * np.sum(waves, axis=0) * fade).astype(np.float32)


def between_silence(sound: NDArray[np.float32]) -> tuple[Waveform, float, float]:
    """The sound after half a second of silence, and when it begins and ends."""
    silence = np.zeros(SAMPLE_RATE_HZ // 2, np.float32)
    return Waveform(np.concatenate((silence, sound, silence))), 0.5, 0.5 + len(sound) / 16_000


@pytest.mark.parametrize("digit", range(len(DIGITS)))
@pytest.mark.parametrize("level", [0.003, 1.0])
def test_digits_are_voices(check: VoiceCheck, digit: int, level: float) -> None:
    assert check.probability(*between_silence(DIGITS[digit] * np.float32(level))) > 0.9


@pytest.mark.parametrize("pitch_hz", [110, 147, 220, 330, 440])
def test_notes_are_none(check: VoiceCheck, pitch_hz: float) -> None:
    assert check.probability(*between_silence(note(pitch_hz))) < 0.1


def test_a_word_between_notes_is_a_voice(check: VoiceCheck) -> None:
    word = DIGITS[0]
    sound = np.concatenate((note(220), word, note(262)))
    waveform = Waveform(sound.astype(np.float32))
    ends = 0.5 + len(word) / SAMPLE_RATE_HZ
    assert check.probability(waveform, 0.0, waveform.duration_s) > 0.5
    assert check.probability(waveform, 0.5, ends) > 0.5
    assert check.probability(waveform, 0.0, 0.45) < 0.5


@pytest.mark.parametrize("end_s", [0.001, 0.02, 0.5, 1.0])
def test_anything_at_a_recordings_edge_has_a_probability(check: VoiceCheck, end_s: float) -> None:
    waveform = Waveform(note(220, end_s))
    assert 0 <= check.probability(waveform, 0.0, waveform.duration_s) <= 1
    silence = Waveform(np.zeros(waveform.num_samples, np.float32))
    assert 0 <= check.probability(silence, 0.0, silence.duration_s) <= 1


def test_what_comes_later_changes_nothing(check: VoiceCheck) -> None:
    """A stream asks as soon as speech has ended, a file knows all that follows."""
    waveform, start_s, end_s = between_silence(DIGITS[0])
    heard = Waveform(waveform.cut(0, end_s + 0.2))
    followed = Waveform(np.concatenate((heard.cut(0, 9), note(220))))
    assert check.probability(heard, start_s, end_s) == check.probability(followed, start_s, end_s)


def test_the_network_is_the_measured_one() -> None:
    """The figures of docs/decisions/0002-vad.md hold for the recipe's network."""
    digest = hashlib.sha256((ASSETS / "voice_check_16k.onnx").read_bytes()).hexdigest()
    assert digest == "367ad6f6fa8a4b18b7d85cff7d2ade06bebc75fa5965f7d18d766071a835e867"


def test_its_card_names_sources_and_licence() -> None:
    card = (ASSETS / "voice_check_16k.md").read_text(encoding="utf-8")
    for source in ("free-spoken-digit-dataset", "CC BY-SA 4.0", "Burkhardt", "espeak-ng"):
        assert source in card
