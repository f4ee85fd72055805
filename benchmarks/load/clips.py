"""The audio that load is made of: dense real speech, of known lengths, never twice the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 16_000

ROOT: Final = Path(__file__).resolve().parents[2]
SPEECH: Final = (
    ROOT / "samples" / "conversation.wav",
    *sorted((ROOT / "tests/data").glob("*.wav")),
)
"""Recordings of the project itself, so that anybody measures with the same audio."""

_FRAME_S: Final = 0.02
_QUIET_DB: Final = -35.0
_KEPT_PAUSE_S: Final = 0.1
_LEVEL: Final = 0.1


@dataclass(frozen=True)
class Clip:
    """One request's audio: 16-bit mono WAV at 16 kHz."""

    wav: bytes
    duration_s: float


def speech() -> NDArray[np.float32]:
    """All recordings in a row at one level, pauses cut to 0.1 s: float32, 16 kHz, about 20 s."""
    pieces: list[NDArray[np.float32]] = []
    for path in SPEECH:
        audio, rate_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == SAMPLE_RATE_HZ, path
        piece = _without_pauses(audio)
        pieces.append(piece * np.float32(_LEVEL / np.sqrt(np.mean(np.square(piece)))))
    return np.asarray(np.concatenate(pieces), dtype=np.float32)


def clip_audio(
    pool: NDArray[np.float32], duration_s: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A stretch of the pool from a random place, going round: shape (num_samples,)."""
    start = int(rng.integers(len(pool)))
    index = (start + np.arange(round(duration_s * SAMPLE_RATE_HZ))) % len(pool)
    return np.asarray(np.clip(pool[index], -1.0, 1.0), dtype=np.float32)


def clips(lengths_s: tuple[float, float], count: int, seed: int) -> Iterator[Clip]:
    """Clips with lengths drawn evenly from a range; the same seed gives the same audio.

    Every clip is other audio than any before, down to the samples: nothing can come from a cache.
    """
    pool = speech()
    rng = np.random.default_rng(seed)
    for _ in range(count):
        audio = clip_audio(pool, float(rng.uniform(*lengths_s)), rng)
        # dither of one 16-bit step, as converters add it
        noisy = np.clip(audio + rng.uniform(-1, 1, len(audio)) / 2**15, -1, 1)
        file = io.BytesIO()
        soundfile.write(file, noisy, SAMPLE_RATE_HZ, "PCM_16", format="WAV")
        yield Clip(file.getvalue(), len(audio) / SAMPLE_RATE_HZ)


def _without_pauses(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio with every pause cut to `_KEPT_PAUSE_S`."""
    size = round(_FRAME_S * SAMPLE_RATE_HZ)
    frames: NDArray[np.float32] = audio[: len(audio) // size * size].reshape(-1, size)
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    quiet = level < level.max() * 10 ** (_QUIET_DB / 20)
    kept, run = [], 0
    for frame, is_quiet in zip(frames, quiet, strict=True):
        run = run + 1 if is_quiet else 0
        if run * _FRAME_S <= _KEPT_PAUSE_S:
            kept.append(frame)
    return np.asarray(np.concatenate(kept), dtype=np.float32)
