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
