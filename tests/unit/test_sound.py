"""Level, noise, clipping and outline of recordings whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from scipy.signal import sosfilt

from api.loudness import LOUDNESS_FRAME_SAMPLES, KWeighting, _k_weighting, integrated
from api.quality import CLIPPED_SHARE
from api.sound import FULL_SCALE, measure
from api.types import Region
from tests.integration.audio_files import CLIPS, samples

RATE = 16_000


def _tone(level_db: float, seconds: float = 5.0, hz: float = 997.0) -> NDArray[np.float32]:
    """A sine whose peak lies so far below full scale."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    return (10 ** (level_db / 20) * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def _noise(seconds: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("level_db", [-6.0, -20.0, -40.0])
def test_loudness_of_the_standards_own_tone(level_db: float) -> None:
    """BS.1770-4: a sine of 997 Hz at 0 dB in one channel reads -3.01 LKFS."""
    sound = measure([_tone(level_db)])
    assert integrated(sound.weighted, [(0.0, 5.0)]) == pytest.approx(level_db - 3.01, abs=0.1)


def test_weighting_in_pieces_is_that_of_the_recursion() -> None:
    heard = _noise(20, 5)
    heard[5 * RATE : 9 * RATE] *= 1e-4
    pieces = np.split(heard, np.cumsum([1, 3, 4, 25, 60]) * LOUDNESS_FRAME_SAMPLES)
    stream = KWeighting()
    found = np.concatenate([stream.push(piece) for piece in pieces])
    recursion = sosfilt(_k_weighting(), heard).reshape(-1, LOUDNESS_FRAME_SAMPLES)
    assert found == pytest.approx(np.square(recursion).mean(axis=1), rel=1e-3)


def test_silence_between_loud_parts_is_gated_out() -> None:
    sound = measure([_tone(-20), np.zeros(20 * RATE, np.float32), _tone(-20)])
    assert integrated(sound.weighted, [(0.0, 30.0)]) == pytest.approx(-23.0, abs=0.2)
    assert integrated(sound.weighted, [(6.0, 24.0)]) is None
    assert integrated(sound.weighted, [(0.0, 0.3)]) is None
    assert integrated(sound.weighted, []) is None


@pytest.mark.parametrize("snr_db", [30.0, 20.0, 10.0, 5.0, 0.0])
@pytest.mark.parametrize("pauses", [True, False])
def test_signal_to_noise_of_known_mixes(snr_db: float, pauses: bool) -> None:
    """Speech comes in bursts; with no pause around it the gaps between them must do."""
    bursts = _noise(30, 1) * (np.arange(30 * RATE) // 1600 % 4 != 0)
    bursts[: 5 * RATE if pauses else 0] = 0
    region = Region(5.0 if pauses else 0.0, 30.0)
    level = np.sqrt(np.mean(np.square(bursts[round(region.start * RATE) :])))
    noise = _noise(30, 2) * level * 10 ** (-snr_db / 20)
    found = measure([0.05 * (bursts + noise).astype(np.float32)]).snr_db([region])
    assert found == pytest.approx(snr_db, abs=0.5 if pauses else 1.5)


def test_a_bang_in_a_pause_is_not_taken_for_the_noise() -> None:
    recorded = 0.001 * _noise(20, 3)
    recorded[10 * RATE :] += 0.1 * _noise(10, 4)
    quiet = measure([recorded]).snr_db([Region(10.0, 20.0)])
    recorded[5 * RATE : 5 * RATE + 3200] += 0.5
    assert measure([recorded]).snr_db([Region(10.0, 20.0)]) == pytest.approx(quiet, abs=0.3)


@pytest.mark.parametrize("clip", ["emotion_angry_14", "emotion_sad_09", "digits_george"])
def test_clipping_is_found_at_any_rate_and_loud_speech_is_none(clip: str) -> None:
    voice = soxr.resample(samples(CLIPS / f"{clip}.wav"), RATE, 44_100)  # where it is clipped
    voice /= np.abs(voice).max()

    def clipped_share(gain: float) -> float:
        recorded = np.clip(gain * voice, -1, 1)
        return measure([np.clip(soxr.resample(recorded, 44_100, RATE), -1, 1)]).clipped_share

    assert clipped_share(1.0) < CLIPPED_SHARE / 10
    assert clipped_share(2.0) > CLIPPED_SHARE
    assert clipped_share(4.0) > 5 * CLIPPED_SHARE


def test_runs_at_full_scale_are_counted_to_the_sample() -> None:
    recorded = 0.1 * _noise(1, 8)
    recorded[100:102] = 1.0  # a peak that just fits
    recorded[1000:1003] = -1.0
    recorded[-5:] = FULL_SCALE
    assert measure([recorded]).clipped_samples == 8


def test_the_blocks_make_no_difference() -> None:
    recorded = 0.3 * _noise(3.21, 9)
    recorded[4990:5010] = 1.0
    whole = measure([recorded])
    for size in (7_000, 1_600, 333):
        parts = measure(recorded[first : first + size] for first in range(0, len(recorded), size))
        assert parts.clipped_samples == whole.clipped_samples == 20
        for ours, theirs in zip(vars(parts).values(), vars(whole).values(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_the_outline_is_bounded_and_keeps_every_peak() -> None:
    recorded = np.zeros(100 * RATE, np.float32)
    recorded[50 * RATE] = -0.75
    outline = measure([recorded]).envelope(1000)
    assert len(outline) == 1000
    assert outline[500] == max(outline) == 0.75
    assert len(measure([recorded[:RATE]]).envelope(1000)) == 100


@pytest.mark.parametrize("size", [0, 1, 159, 160, 1599])
def test_a_recording_of_next_to_nothing(size: int) -> None:
    sound = measure([np.zeros(size, np.float32)] if size else [])
    assert (sound.num_samples, sound.clipped_share) == (size, 0)
    assert sound.snr_db([Region(0.0, 1.0)]) is None or size >= 160
    assert integrated(sound.weighted, [(0.0, 1.0)]) is None
