"""Audio as live clients send it: raw samples, and the chunks of a browser's MediaRecorder."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from api.types import SAMPLE_RATE_HZ

_OPTIONS = {"webm": {"cluster_time_limit": "250", "live": "1"}, "ogg": {"page_duration": "250000"}}
_OPUS_RATE_HZ = 48_000
_OPUS_FRAME = 960


def pcm(
    samples: NDArray[np.float32],
    encoding: Literal["s16le", "f32le"] = "s16le",
    rate_hz: int = SAMPLE_RATE_HZ,
) -> bytes:
    """Raw samples at a rate; `samples` are float32, shape (n,), 16 kHz."""
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
    if encoding == "f32le":
        return samples.astype("<f4").tobytes()
    return np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def recorded(samples: NDArray[np.float32], container: Literal["webm", "ogg"]) -> list[bytes]:
    """Opus in a container, in chunks of about a quarter of a second."""
    at_48k = soxr.resample(samples, SAMPLE_RATE_HZ, _OPUS_RATE_HZ).astype(np.float32)
    chunks = _Chunks()
    with av.open(chunks, "w", format=container, options=_OPTIONS[container]) as output:
        stream = output.add_stream("libopus", rate=_OPUS_RATE_HZ, layout="mono")
        for start in range(0, len(at_48k), _OPUS_FRAME):
            block = at_48k[None, start : start + _OPUS_FRAME]
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
            frame.sample_rate, frame.pts = _OPUS_RATE_HZ, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return chunks.written


class _Chunks:
    """A file that can't be sought in, as a network."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.written.append(bytes(data))
        return len(data)
