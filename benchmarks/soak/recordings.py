"""What the callers send: recordings of the project, and the same again for no cache to know."""

from __future__ import annotations

import io
import itertools
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.clips import ROOT, SAMPLE_RATE_HZ

_PAUSE_S: Final = 1.0
_MARKS: Final = 16
"""So many samples at the end tell a copy's number, one bit each: 65,536 copies."""


@dataclass(frozen=True)
class Recording:
    """`samples`: int16, shape (num_samples,), 16 kHz; a second of silence is at their end."""

    name: str
    samples: NDArray[np.int16]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    def copy(self, number: int) -> NDArray[np.int16]:
        """The recording with its number as the lowest bits of the last samples: nobody hears it,
        models are given the same speech, and to a cache it is another one."""
        marked = self.samples.copy()
        marked[-_MARKS:] = [number >> bit & 1 for bit in range(_MARKS)]
        return marked


def recordings() -> list[Recording]:
    """The sample, the shorter ones of the tests, and all of them in a row."""
    paths = [ROOT / "samples" / "conversation.wav", *sorted((ROOT / "tests/data").glob("*.wav"))]
    singles = [Recording(path.stem, _read(path)) for path in paths]
    return [*singles, Recording("all", np.concatenate([one.samples for one in singles]))]


def numbers() -> Iterator[int]:
    """Numbers for copies; 0 is the recording itself."""
    return itertools.count(1)


def wav(samples: NDArray[np.int16]) -> bytes:
    """A WAV file of the samples."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())
    return target.getvalue()


def _read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    silence = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.int16)
    return np.asarray(np.concatenate([samples, silence]), dtype=np.int16)
