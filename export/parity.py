"""Compares an exported model with PyTorch on recordings of real people.

The difference is judged on the scale of what is compared: logits of a trained classifier spread
over several units, raw ECAPA embeddings over tens, so an absolute bound would be strict for one and
loose for the other. A difference is therefore divided by the standard deviation of the reference
values over all clips, or by the value itself where that is larger: every floating-point format
rounds in proportion, and networks have a few numbers that are hundreds of times as large as others.
"""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.errors import ParityError
from export.types import SAMPLE_RATE_HZ, Precision

SAMPLES_DIR: Final = Path(__file__).resolve().parents[1] / "tests" / "data"


@dataclass(frozen=True)
class Tolerance:
    """The bounds of a parity check: largest relative difference (see `Parity`), smallest cosine."""

    max_difference: float
    min_cosine: float


TOLERANCES: Final[dict[Precision, Tolerance]] = {
    "fp32": Tolerance(max_difference=1e-3, min_cosine=0.9999),
    "fp16": Tolerance(max_difference=2e-2, min_cosine=0.999),
    "bf16": Tolerance(max_difference=5e-1, min_cosine=0.99),
    "int8": Tolerance(max_difference=5e-1, min_cosine=0.98),
}
"""fp32 is the project's contract. fp16 keeps 11 bits of mantissa, bf16 8, int8 8 for each weight:
their bounds say "the same model, coarser", and are meant to catch a broken graph, not to promise an
accuracy."""


SMALLEST_SCALE: Final = 1e-30
"""Stands in for the spread of answers that are all alike: any difference from those is too much."""


@dataclass(frozen=True)
class Parity:
    """What a comparison measured.

    Attributes:
        scale: the reference's standard deviation.
        relative_difference: the largest difference, in standard deviations or shares of the value.
        clips: how many were compared.
    """

    max_abs_difference: float
    scale: float
    relative_difference: float
    min_cosine: float
    clips: int

    def as_manifest(self) -> dict[str, float | bool | int | str]:
        """The measured values under the keys that manifest.json carries."""
        return asdict(self)


def sample_audio() -> list[NDArray[np.float32]]:
    """Reads the committed clips, in the order of their names: float32, shape (num_samples,), in
    [-1, 1], 16 kHz.

    Raises:
        FileNotFoundError: the checkout has no clips under tests/data.
    """
    paths = sorted(SAMPLES_DIR.glob("*.wav"))
    if not paths:
        raise FileNotFoundError(f"no sample clips in {SAMPLES_DIR}")
    return [_read_pcm16(path) for path in paths]


def compare(
    expected: Sequence[NDArray[np.float32]], measured: Sequence[NDArray[np.float32]]
) -> Parity:
    """Measures how far `measured` is from `expected`, vector by vector (equal shapes, one vector
    per clip)."""
    reference = np.concatenate([vector.ravel() for vector in expected]).astype(np.float64)
    answer = np.concatenate([vector.ravel() for vector in measured]).astype(np.float64)
    difference, scale = np.abs(reference - answer), float(reference.std())
    sizes = np.maximum(np.abs(reference), max(scale, SMALLEST_SCALE))
    return Parity(
        max_abs_difference=float(difference.max()),
        scale=scale,
        relative_difference=float((difference / sizes).max()),
        min_cosine=min(_cosine(a, b) for a, b in zip(expected, measured, strict=True)),
        clips=len(expected),
    )


def check(parity: Parity, tolerance: Tolerance) -> None:
    """Holds a comparison to its bounds; not-a-number fails.

    Raises:
        ParityError: a bound is passed.
    """
    close = parity.relative_difference <= tolerance.max_difference
    aligned = parity.min_cosine >= tolerance.min_cosine
    if not (close and aligned):
        raise ParityError(
            "the exported model doesn't answer as PyTorch does: largest difference "
            f"{parity.relative_difference:.2e} standard deviations or shares of a value (allowed "
            f"{tolerance.max_difference:.0e}), smallest cosine {parity.min_cosine:.6f} (allowed "
            f"{tolerance.min_cosine})"
        )


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _read_pcm16(path: Path) -> NDArray[np.float32]:
    with wave.open(str(path), "rb") as clip:
        if (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) != (
            SAMPLE_RATE_HZ,
            1,
            2,
        ):
            raise ValueError(f"{path} isn't 16 kHz mono 16-bit PCM")
        frames = clip.readframes(clip.getnframes())
    return (np.frombuffer(frames, dtype="<i2") / 32768.0).astype(np.float32)
