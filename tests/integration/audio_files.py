"""Audio for requests: WAV bytes from samples, and noises that aren't speech."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.settings import PROJECT_ROOT
from api.types import SAMPLE_RATE_HZ

CLIPS = PROJECT_ROOT / "tests" / "data"


def wav(samples: NDArray[np.float32]) -> bytes:
    """16-bit mono WAV at 16 kHz; samples in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def samples(path: Path) -> NDArray[np.float32]:
    """A 16-bit mono WAV's samples in [-1, 1]."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (SAMPLE_RATE_HZ, 1)
        raw = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return (raw / 32768).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)


def digits() -> list[NDArray[np.float32]]:
    """The spoken-digit clips, in order of name, all of different lengths."""
    return [samples(path) for path in sorted(CLIPS.glob("digit*.wav"))]


def wordless(count: int, seed: int) -> list[NDArray[np.float32]]:
    """Silence, white, pink and brown noise, mains hum with harmonics, chords and melodies: 2 to
    12 s, at levels from barely there to loud."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        size = int(rng.integers(2, 13)) * SAMPLE_RATE_HZ
        level = 10 ** rng.uniform(-4, -0.7)
        kind = number % 7
        if kind == 0:
            clip = np.zeros(size)
        elif kind == 4:
            t = np.arange(size) / SAMPLE_RATE_HZ
            base = rng.choice([50.0, 60.0])
            clip = sum(np.sin(2 * np.pi * base * k * t + k) / k for k in range(1, 8)) * level
        elif kind == 5:
            clip = _chords(rng, size) * level
        elif kind == 6:
            clip = _melody(rng, size) * level
        else:
            clip = _coloured(rng, size, slope=kind - 1) * level
        clips.append(clip.astype(np.float32))
    return clips


def _chords(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Chords of plucked strings in a random key, a bass and a beat, at 80 to 160 beats a minute."""
    beat = round(60 / rng.uniform(80, 160) * SAMPLE_RATE_HZ)
    root = 110 * 2 ** (rng.integers(12) / 12)
    music = np.zeros(size)
    for number, start in enumerate(range(0, size, beat)):
        t = np.arange(min(2 * beat, size - start)) / SAMPLE_RATE_HZ
        chord = root * 2 ** (rng.choice([0, 2, 5, 7, 9]) / 12)
        for interval in (-12, 0, 4 if number % 4 else 3, 7):
            note = chord * 2 ** (interval / 12)
            for harmonic in range(1, 7):
                partial = np.sin(2 * np.pi * note * harmonic * t) / harmonic**1.5
                music[start : start + len(t)] += partial * np.exp(-3 * harmonic * t)
        drum = rng.standard_normal(len(t)) * np.exp(-40 * t)
        music[start : start + len(t)] += drum
    return np.asarray(music / np.abs(music).max())


def _melody(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """One note after the other with up to twelve harmonics, some bowed with vibrato, some blown."""
    vibrato, harmonics, fall = rng.choice([0, 0.008]), rng.integers(3, 13), rng.uniform(0.4, 1.6)
    melody, start = np.zeros(size), 0
    while start < size:
        t = (
            np.arange(min(int(rng.uniform(0.1, 0.8) * SAMPLE_RATE_HZ), size - start))
            / SAMPLE_RATE_HZ
        )
        pitch = 98 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12, 14, 16]) / 12)
        phase = 2 * np.pi * pitch * (t - vibrato / 33 * np.cos(33 * t))
        note = sum(np.sin(k * phase) / k**fall for k in range(1, harmonics + 1))
        melody[start : start + len(t)] = note * np.minimum(1, np.minimum(t, t[::-1]) / 0.03)
        start += len(t)
    return melody / np.abs(melody).max()


def _coloured(rng: np.random.Generator, size: int, slope: int) -> NDArray[np.float64]:
    """Noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.arange(1, len(spectrum) + 1)
    noise = np.fft.irfft(spectrum / frequency ** (slope / 2), size)
    return np.asarray(noise / np.abs(noise).max())
