"""What every peer is to the server around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """What a peer made of one clip: text, and how many text tokens it decoded for it."""

    text: str
    tokens: int


class Transcriber(Protocol):
    """Writes words.

    Attributes:
        workers: how many threads call `transcribe` at once.
        max_batch: how many waiting clips one call may take.
    """

    workers: int
    max_batch: int

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        """clips: float32, shape (num_samples,), 16 kHz, at most 30 s each."""


class WindowModel(Protocol):
    """Reads windows of one length."""

    def run(self, windows: Floats) -> Floats:
        """windows: float32, shape (batch, num_samples) → logits or embeddings, (batch, n)."""
