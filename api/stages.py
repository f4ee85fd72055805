"""The stages whose results are cached, and how each result becomes bytes and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter

from api.cache import Stage
from api.chunking import Chunk
from api.services import emotion, speaker_embedding, whisper
from api.services.whisper import Transcript
from api.services.windows import Window
from api.types import Region

_REGIONS = TypeAdapter(list[Region])
_TRANSCRIPTS = TypeAdapter(list[Transcript])


def _array_to_bytes(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def _array_from_bytes(payload: bytes) -> NDArray[np.float32]:
    try:
        array = np.load(io.BytesIO(payload), allow_pickle=False)
    except (EOFError, OSError) as error:
        raise ValueError("This is no array") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2:
        raise ValueError("This is no table of float32")
    return array


VAD: Stage[list[Region]] = Stage("vad", orjson.dumps, _REGIONS.validate_json)
OVERLAP: Stage[list[Region]] = Stage("overlap", orjson.dumps, _REGIONS.validate_json)
WHISPER: Stage[list[Transcript]] = Stage(
    whisper.SPEC.name, orjson.dumps, _TRANSCRIPTS.validate_json
)
"""One transcript a chunk."""

SPEAKER_EMBEDDING: Stage[NDArray[np.float32]] = Stage(
    speaker_embedding.SPEC.name, _array_to_bytes, _array_from_bytes
)
"""float32, shape (num_windows, dim)."""

EMOTION: Stage[NDArray[np.float32]] = Stage(emotion.SPEC.name, _array_to_bytes, _array_from_bytes)
"""Probabilities, float32, shape (num_windows, num_labels)."""


def chunk_layout(chunks: Sequence[Chunk]) -> list[Any]:
    """Which samples of the recording each chunk is made of: part of Whisper's key."""
    return [[(p.chunk_start, p.source_start, p.length) for p in c.pieces] for c in chunks]


def window_layout(windows: Sequence[Window]) -> list[tuple[float, float, int]]:
    """Which stretch each window stands for: part of the window models' keys."""
    return [(w.start_s, w.end_s, w.num_samples) for w in windows]
