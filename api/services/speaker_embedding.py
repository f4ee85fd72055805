"""ECAPA-TDNN, speech to voice: fixed windows into tensors, one embedding a window out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from api.errors import InferenceError
from api.services.windows import Window
from api.tensors import ModelSpec, Tensors, TensorSpec

AUDIO = TensorSpec("AUDIO", "FP32", (-1,))
EMBEDDING = TensorSpec("EMBEDDING", "FP32", (-1,))
SPEC = ModelSpec("speaker_embedding", inputs=(AUDIO,), outputs=(EMBEDDING,))


def encode(windows: Sequence[Window]) -> Tensors:
    """Windows of one length as a batch, shape (len(windows), window_samples)."""
    return {AUDIO.name: np.stack([w.samples for w in windows])}


def decode(tensors: Tensors, windows: Sequence[Window]) -> NDArray[np.float32]:
    """Embeddings as the model gives them (not normalised), shape (len(windows), dim).

    Raises:
        InferenceError: the answer's shape doesn't fit the windows, or isn't finite.
    """
    embeddings = np.asarray(tensors[EMBEDDING.name], dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(windows) or not np.isfinite(embeddings).all():
        raise InferenceError("The speaker model's answer can't be read", model=SPEC.name)
    return embeddings
