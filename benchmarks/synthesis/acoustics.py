"""Rooms and noise for synthetic conversations; all draw only from the generator handed in."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

SAMPLE_RATE_HZ: Final = 16_000

_DIRECT_TO_REVERBERANT_DB: Final = (0.0, 8.0)
"""Range of the direct sound's energy over the room's, as at a table about a metre from a
microphone (Naylor & Gaubitch, "Speech Dereverberation", 2010, section 2.3)."""

_FIRST_REFLECTION_S: Final = 0.005
"""The room answers this much after the direct sound: a path 1.7 m longer."""


def room_response(t60_s: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A room's impulse response: the direct sound at sample 0, then decaying noise.

    Polack's statistical model ("La transmission de l'énergie sonore dans les salles", 1988):
    Gaussian noise under an exponential that has fallen by 60 dB after `t60_s`. The direct sound
    stays at 0, so that the truth's times stay true.
    """
    time_s = np.arange(int(t60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * np.exp(-3 * np.log(10) * time_s / t60_s)
    tail[: int(_FIRST_REFLECTION_S * SAMPLE_RATE_HZ)] = 0.0
    ratio_db = rng.uniform(*_DIRECT_TO_REVERBERANT_DB)
    tail *= 10 ** (-ratio_db / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(tail, dtype=np.float32)


def reverberate(audio: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio in that room; the length stays, what rings past the end is cut."""
    return np.asarray(fftconvolve(audio, response)[: len(audio)], dtype=np.float32)


def pink_noise(num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise whose power falls by 3 dB an octave, as rooms and traffic have it; unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, num_samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)), dtype=np.float32)
