"""Files of every kind, by a real encoder or byte by byte, and how alike what comes out is."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray


def signal(rate_hz: int, seconds: float = 1.5, channels: int = 1) -> NDArray[np.float32]:
    """A chirp from 100 to 1,500 Hz with a swelling envelope, shape (channels, n)."""
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    phase = 2 * np.pi * (100 * t + 1400 / (2 * seconds) * t**2)
    chirp = 0.5 * np.sin(phase) * np.sin(np.pi * t / seconds)
    return np.tile(chirp.astype(np.float32), (channels, 1))


def encode(
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    muxer: str = "wav",
    codec: str = "pcm_s16le",
    sample_format: str = "s16",
) -> bytes:
    """A file of the given kind; samples float32, shape (channels, n)."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(samples)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as container:
        stream = container.add_stream(
            codec, rate=rate_hz, layout=layout, options={"strict": "experimental"}
        )
        stream.codec_context.format = sample_format
        for start in range(0, samples.shape[1], rate_hz):
            frame = sound(samples[:, start : start + rate_hz], rate_hz, layout, start)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def sound(samples: NDArray[np.float32], rate_hz: int, layout: str, start: int = 0) -> av.AudioFrame:
    packed = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate_hz
    frame.pts = start
    frame.time_base = Fraction(1, rate_hz)
    return frame


def wav(
    samples: NDArray[np.generic], rate_hz: int, *, channels: int = 1, format_tag: int = 1
) -> bytes:
    """A WAV file written byte by byte, for what an encoder refuses to write."""
    body = samples.tobytes()
    width = samples.dtype.itemsize
    fmt = struct.pack(
        "<HHIIHH",
        format_tag,
        channels,
        rate_hz,
        rate_hz * channels * width,
        channels * width,
        8 * width,
    )
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(body))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(body)) + b"WAVE" + chunks + body


def similarity(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Largest normalised correlation over delays of up to 3 ms, which covers codec delays."""
    best = 0.0
    for delay in range(-48, 49):
        first, second = got[max(0, delay) :], wanted[max(0, -delay) :]
        n = min(len(first), len(second))
        norm = float(np.linalg.norm(first[:n]) * np.linalg.norm(second[:n]))
        best = max(best, float(first[:n] @ second[:n]) / norm)
    return best
