"""wav2vec2, speech to emotion: fixed windows into tensors, logits into probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.errors import InferenceError
from api.services.windows import Window
from api.tensors import ModelSpec, Tensors, TensorSpec
from api.types import Emotion

AUDIO = TensorSpec("AUDIO", "FP32", (-1,))
LOGITS = TensorSpec("LOGITS", "FP32", (-1,))
SPEC = ModelSpec("emotion", inputs=(AUDIO,), outputs=(LOGITS,))


@dataclass(frozen=True)
class HeardWindow:
    """The emotion in one window: probabilities, float32, shape (num_labels,), summing to 1."""

    start: float
    end: float
    probabilities: NDArray[np.float32]


def encode(windows: Sequence[Window]) -> Tensors:
    """Windows of one length as a batch, shape (len(windows), window_samples)."""
    return {AUDIO.name: np.stack([w.samples for w in windows])}


def decode(tensors: Tensors, windows: Sequence[Window], num_labels: int) -> list[HeardWindow]:
    """Softmax of the logits, one row a window.

    Raises:
        InferenceError: the answer's shape doesn't fit the windows and labels, or isn't finite.
    """
    logits = np.asarray(tensors[LOGITS.name], dtype=np.float32)
    if logits.shape != (len(windows), num_labels) or not np.isfinite(logits).all():
        raise InferenceError("The emotion model's answer can't be read", model=SPEC.name)
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponent / exponent.sum(axis=1, keepdims=True)
    return [
        HeardWindow(w.start_s, w.end_s, row) for w, row in zip(windows, probabilities, strict=True)
    ]


def over(
    heard: Sequence[HeardWindow], start: float, end: float, labels: Sequence[str]
) -> Emotion | None:
    """The emotion between two times: the windows' mean, weighted by how much they overlap.

    None where no window touches the stretch.
    """
    weights = np.array([max(0.0, min(h.end, end) - max(h.start, start)) for h in heard])
    if weights.sum() <= 0:
        return None
    mean = np.average([h.probabilities for h in heard], axis=0, weights=weights)
    scores = {label: float(p) for label, p in zip(labels, mean, strict=True)}
    return Emotion(label=max(scores, key=scores.__getitem__), scores=scores)
