"""What rooms, microphones and lines do to speech: noise, hum, reverb, colouring, speed, bandwidth.

Every function takes and returns float32 samples at 16 kHz and draws only from the generator that it
is handed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from export.training.corpora import SAMPLE_RATE_HZ

NOISE_KINDS = ("white", "pink", "brown", "band")


def rms(audio: NDArray[np.float32]) -> float:
    """Root mean square over the samples, never zero."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) + 1e-9


def normalise_level(audio: NDArray[np.float32], level: float = 0.05) -> NDArray[np.float32]:
    """Scale to a root mean square of ``level`` (0.05 is -26 dB full scale)."""
    return audio * np.float32(level / rms(audio))


def change_speed(audio: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Play faster (factor > 1) or slower, pitch and all: shape (round(num_samples / factor),)."""
    positions = np.arange(round(len(audio) / factor)) * factor
    return np.interp(positions, np.arange(len(audio)), audio).astype(np.float32)


def coloured_noise(
    num_samples: int, rng: np.random.Generator, kind: str | None = None
) -> NDArray[np.float32]:
    """Gaussian noise of unit root mean square, of one of NOISE_KINDS (a random one when None)."""
    kind = kind or NOISE_KINDS[rng.integers(len(NOISE_KINDS))]
    white = rng.standard_normal(num_samples).astype(np.float32)
    if kind == "white":
        return white
    frequency_hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ)
    frequency_hz[0] = frequency_hz[min(1, len(frequency_hz) - 1)] or 1.0
    if kind == "pink":
        gain = frequency_hz**-0.5
    elif kind == "brown":
        gain = frequency_hz**-1.0
    else:
        centre_hz, width_hz = rng.uniform(100, 3500), rng.uniform(100, 1500)
        gain = np.exp(-(((frequency_hz - centre_hz) / width_hz) ** 2))
    return normalise_level(
        np.fft.irfft(np.fft.rfft(white) * gain, num_samples).astype(np.float32), 1.0
    )


def mains_hum(num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """50 or 60 Hz hum with random harmonics, unit root mean square."""
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    base_hz = 50.0 if rng.random() < 0.5 else 60.0
    hum = np.zeros(num_samples)
    for harmonic in range(1, 9):
        hum += (
            rng.random()
            / harmonic
            * np.sin(2 * np.pi * (base_hz * harmonic * time_s + rng.random()))
        )
    return normalise_level(hum.astype(np.float32), 1.0)


def music_tones(num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random tune of decaying chords, unit root mean square: pitch but no words."""
    tune = np.zeros(num_samples)
    start = 0
    while start < num_samples:
        length = min(int(rng.uniform(0.12, 1.0) * SAMPLE_RATE_HZ), num_samples - start)
        time_s = np.arange(length) / SAMPLE_RATE_HZ
        for _ in range(int(rng.integers(1, 4))):
            pitch_hz = 55 * 2 ** (rng.integers(0, 48) / 12)
            overtones = sum(
                rng.random() / k * np.sin(2 * np.pi * pitch_hz * k * time_s)
                for k in range(1, 6)
                if pitch_hz * k < SAMPLE_RATE_HZ / 2
            )
            tune[start : start + length] += overtones * np.exp(-time_s * rng.uniform(0.5, 6))
        start += length
    return normalise_level(tune.astype(np.float32), 1.0)


def add_noise(
    speech: NDArray[np.float32],
    noise: NDArray[np.float32],
    snr_db: float,
    speech_rms: float | None = None,
) -> NDArray[np.float32]:
    """Mix at an SNR; ``speech_rms`` overrides the level of ``speech``, which pauses lower."""
    level = rms(speech) if speech_rms is None else speech_rms
    return speech + noise * np.float32(level / rms(noise) * 10 ** (-snr_db / 20))


def add_reverb(audio: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Convolve with a random exponential room (60 dB decay in 0.08 to 0.5 s); the length stays."""
    length = int(rng.uniform(0.08, 0.5) * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    room = tail * rng.uniform(0.3, 1.8) / np.sqrt(length)
    room[0] = 1.0
    return np.asarray(fftconvolve(audio, room)[: len(audio)], dtype=np.float32)


def equalise(
    audio: NDArray[np.float32], rng: np.random.Generator, max_gain_db: float = 6.0
) -> NDArray[np.float32]:
    """Colour the spectrum by a random smooth curve of six points within ±max_gain_db."""
    spectrum = np.fft.rfft(audio)
    curve_db = np.interp(
        np.linspace(0, 1, len(spectrum)) ** 0.5,
        np.linspace(0, 1, 6),
        rng.uniform(-max_gain_db, max_gain_db, 6),
    )
    return np.fft.irfft(spectrum * 10 ** (curve_db / 20), len(audio)).astype(np.float32)


def lowpass(audio: NDArray[np.float32], cutoff_hz: float) -> NDArray[np.float32]:
    """Sixth-order Butterworth low-pass, as a telephone line or an 8 kHz recording sounds."""
    sections = butter(6, cutoff_hz / (SAMPLE_RATE_HZ / 2), output="sos")
    return np.asarray(sosfilt(sections, audio), dtype=np.float32)
