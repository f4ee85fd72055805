"""Sounds that have pitch and rhythm and are no voice: tunes, drums, whistles, hum, sirens, noise.

A voice activity detector that was made for speech takes single notes for vowels. What gives notes
away is how they hold their pitch, begin and end; and which of them a detector falls for is anyone's
guess, so that these are of as many kinds as a few formulas can make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.training.augment import coloured_noise, mains_hum, music_tones, rms
from export.training.corpora import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]

_LOWEST_HZ = 55.0
_HIGHEST_HZ = 7600.0
_WITH_MORE_LINES, _WITH_DRUMS, _WITH_OTHERS = 0.3, 0.3, 0.08
_ACCOMPANIMENT_DB = (-20.0, 3.0)
_SHARES = {"tune": 0.8, "chords": 0.08, "other": 0.08, "noise": 0.04}


def wordless_sound(num_samples: int, rng: np.random.Generator) -> Samples:
    """Any of these sounds, of unit root mean square: float32, shape (num_samples,)."""
    kind = rng.choice(list(_SHARES), p=list(_SHARES.values()))
    if kind == "tune":
        return tune(num_samples, rng)
    make = {"chords": music_tones, "other": _other, "noise": coloured_noise}[kind]
    return _unit(make(num_samples, rng))


def tune(num_samples: int, rng: np.random.Generator) -> Samples:
    """A line of notes of one random instrument, often with more lines, drums or others below it."""
    made = _unit(_line(num_samples, rng))
    for add, share in (
        (_line, _WITH_MORE_LINES),
        (_drums, _WITH_DRUMS),
        (_other, _WITH_OTHERS),
    ):
        if rng.random() < share:
            level = 10 ** (rng.uniform(*_ACCOMPANIMENT_DB) / 20)
            made = made + _unit(add(num_samples, rng)) * np.float32(level)
    return _unit(made)


@dataclass(frozen=True)
class _Instrument:
    """How notes sound.

    Attributes:
        wave: a phase in radians to a sample.
        vibrato, tremolo: depth, relative; both at `swing_hz`.
        glide: how far off the pitch a note begins, relative.
        attack_s, release_s: times in which a note rises and falls.
        decay: how fast it fades while it lasts, per second.
    """

    wave: Callable[[NDArray[np.float64], float], NDArray[np.float64]]
    vibrato: float
    tremolo: float
    swing_hz: float
    glide: float
    attack_s: float
    release_s: float
    decay: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> _Instrument:
        return cls(
            wave=_random_wave(rng),
            vibrato=_sometimes(rng, 0.4, 0.0, 0.02),
            tremolo=_sometimes(rng, 0.2, 0.0, 0.5),
            swing_hz=rng.uniform(4, 7),
            glide=_sometimes(rng, 0.15, -0.06, 0.06),
            attack_s=rng.uniform(0.002, 0.1),
            release_s=rng.uniform(0.01, 0.15),
            decay=_sometimes(rng, 0.4, 0.5, 10.0),
        )

    def play(self, pitch_hz: float, num_samples: int) -> NDArray[np.float64]:
        """One note, shape (num_samples,)."""
        time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
        swing = np.sin(2 * np.pi * self.swing_hz * time_s)
        bend = (1 + self.vibrato * swing) * (1 + self.glide * np.exp(-time_s / 0.05))
        phase = 2 * np.pi * np.cumsum(pitch_hz * bend) / SAMPLE_RATE_HZ
        rise = np.minimum(1, time_s / self.attack_s)
        fall = np.minimum(1, time_s[::-1] / self.release_s)
        swell = (1 - self.tremolo / 2 + self.tremolo / 2 * swing) * np.exp(-self.decay * time_s)
        return self.wave(phase, pitch_hz) * rise * fall * swell


def _random_wave(
    rng: np.random.Generator,
) -> Callable[[NDArray[np.float64], float], NDArray[np.float64]]:
    """A square, a sawtooth, or up to twenty harmonics that fall off somehow."""
    kind = rng.random()
    if kind < 0.15:
        return lambda phase, _: np.sign(np.sin(phase))
    if kind < 0.3:
        return lambda phase, _: (phase / np.pi) % 2 - 1
    harmonics = np.arange(1, 1 + rng.integers(1, 20))
    amplitudes = harmonics ** -rng.uniform(0, 2.2)
    if rng.random() < 0.2:
        amplitudes = amplitudes * (harmonics % 2)  # a clarinet's
    if rng.random() < 0.5:
        amplitudes = amplitudes * rng.uniform(0.3, 1, len(harmonics))
    shifts = harmonics * (kind < 0.6)

    def wave(phase: NDArray[np.float64], pitch_hz: float) -> NDArray[np.float64]:
        made = np.zeros(len(phase))
        for harmonic, amplitude, shift in zip(harmonics, amplitudes, shifts, strict=True):
            if pitch_hz * harmonic < _HIGHEST_HZ:
                made += amplitude * np.sin(phase * harmonic + shift)
        return made

    return wave


def _line(num_samples: int, rng: np.random.Generator) -> Samples:
    """Notes, or chords of two or three, one after the other, in a range of up to two octaves."""
    instrument = _Instrument.random(rng)
    at_once = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
    lowest, span = rng.integers(0, 24), rng.integers(3, 25)
    line = np.zeros(num_samples)
    for start, end in _notes(num_samples, rng):
        for _ in range(at_once):
            pitch_hz = _LOWEST_HZ * 2 ** ((lowest + rng.integers(span + 1)) / 12)
            line[start:end] += instrument.play(pitch_hz, end - start)
        line[start:end] *= rng.uniform(0.5, 1)
    return line.astype(np.float32)


def _notes(num_samples: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    lengths_s = (0.08, 0.4) if rng.random() < 0.4 else (0.15, 1.2)
    longest_rest_s = _sometimes(rng, 0.4, 0.0, 0.5)
    start = int(_sometimes(rng, 0.3, 0.0, 0.5) * SAMPLE_RATE_HZ)
    while start < num_samples:
        end = min(num_samples, start + int(rng.uniform(*lengths_s) * SAMPLE_RATE_HZ))
        yield start, end
        start = end + int(rng.uniform(0, longest_rest_s) * SAMPLE_RATE_HZ)


def _drums(num_samples: int, rng: np.random.Generator) -> Samples:
    beat = int(rng.uniform(0.15, 0.7) * SAMPLE_RATE_HZ)
    drums = np.zeros(num_samples)
    for start in range(0, num_samples, beat):
        time_s = np.arange(min(beat, num_samples - start)) / SAMPLE_RATE_HZ
        if rng.random() < 0.5:
            hit = rng.standard_normal(len(time_s)) * np.exp(-rng.uniform(8, 60) * time_s)
        else:
            sinking = np.exp(-2 * time_s) * time_s
            hit = 2 * np.sin(2 * np.pi * rng.uniform(40, 120) * sinking) * np.exp(-8 * time_s)
        drums[start : start + len(time_s)] += hit * (rng.random() < 0.9)
    return drums.astype(np.float32)


def _other(num_samples: int, rng: np.random.Generator) -> Samples:
    """A sweep, hum, noise that swells and sinks, a whistle, or a siren."""
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    swell = np.sin(2 * np.pi * rng.uniform(1, 8) * time_s)
    kind = rng.integers(5)
    if kind == 0:
        octaves = rng.uniform(-2, 2) * np.linspace(0, 1, num_samples)
        made = np.sin(_phase(rng.uniform(80, 2000) * 2**octaves))
    elif kind == 1:
        return mains_hum(num_samples, rng)
    elif kind == 2:
        made = coloured_noise(num_samples, rng) * (1 + swell)
    elif kind == 3:
        wander = rng.uniform(200, 1500) + 0.5 * np.cumsum(rng.standard_normal(num_samples))
        made = np.sin(_phase(np.clip(wander, 80, 4000))) * (1 + 0.8 * swell)
    else:
        pitch = rng.uniform(80, 600) * (1 + 0.1 * np.sign(swell))
        made = sum(np.sin(_phase(pitch) * k) / k for k in range(1, 8))
    return np.asarray(made, np.float32)


def _phase(pitch_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ


def _sometimes(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    """Anything between the two, in that share of cases; else 0."""
    return float(rng.uniform(low, high)) if rng.random() < share else 0.0


def _unit(samples: Samples) -> Samples:
    return (samples / np.float32(rms(samples))).astype(np.float32)
