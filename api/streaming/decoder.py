"""A stream's bytes → 16 kHz mono, as they arrive: raw samples, or a browser's WebM and Ogg.

Both decoders are synchronous and compute: call them off the event loop, one call at a time.
"""

from __future__ import annotations

import threading
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from api import audio
from api.errors import InvalidAudio, VoiceAnalyticsError

Encoding = Literal["s16le", "f32le", "webm", "ogg"]

SAMPLE_BYTES = {"s16le": 2, "f32le": 4}
"""Of the raw encodings, in which a sample can be told apart; the others are containers."""


_MAGIC = {"webm": b"\x1a\x45\xdf\xa3", "ogg": b"OggS"}
"""First bytes. FFmpeg would search 64 kB of anything for an Ogg page, and a slow client keep it
waiting."""


class LiveDecoder(Protocol):
    """Takes bytes, gives the samples that they complete: float32, shape (n,), 16 kHz, in [-1, 1].

    `push` and `finish` raise InvalidAudio or UnsupportedAudioFormat for what can't be decoded.
    """

    def push(self, data: bytes) -> NDArray[np.float32]: ...

    def finish(self) -> NDArray[np.float32]:
        """What was held back, once the last byte was pushed."""
        ...

    def close(self) -> None:
        """Let go of everything; may be called at any time, and twice."""
        ...


def live_decoder(encoding: Encoding, sample_rate_hz: int, *, max_samples: int) -> LiveDecoder:
    """The decoder of an encoding; containers know their own rate.

    Args:
        max_samples: at 16 kHz; containers, of which few bytes can hold hours, stop behind it.
    """
    if encoding in SAMPLE_BYTES:
        return PcmDecoder("<i2" if encoding == "s16le" else "<f4", sample_rate_hz)
    return ContainerDecoder(encoding, max_samples=max_samples)


class PcmDecoder:
    """Raw mono samples; every push must hold whole ones."""

    def __init__(self, dtype: Literal["<i2", "<f4"], sample_rate_hz: int) -> None:
        self._dtype = dtype
        self._resampler = audio.Resampler(sample_rate_hz)

    def push(self, data: bytes) -> NDArray[np.float32]:
        raw = np.frombuffer(data, self._dtype)
        if self._dtype == "<i2":
            samples = raw.astype(np.float32) / np.float32(32768)
        else:
            samples = np.nan_to_num(raw.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return self._resampler.push([np.clip(samples, -1.0, 1.0)], last=False)

    def finish(self) -> NDArray[np.float32]:
        return self._resampler.push([], last=True)

    def close(self) -> None:
        """There is nothing to let go of."""


class ContainerDecoder:
    """WebM or Ogg, decoded by FFmpeg in a thread of its own.

    FFmpeg pulls where a stream pushes: its thread reads from a pipe, and `push` waits until all
    that it was given is read and the thread wants more. So every push gives at once what its bytes
    complete, and nothing piles up in between.
    """

    def __init__(self, container: str, *, max_samples: int) -> None:
        self._container = container
        self._max_samples = max_samples
        self._first = b""
        self._pipe = _Pipe()
        self._blocks: list[NDArray[np.float32]] = []
        self._error: VoiceAnalyticsError | None = None
        self._thread = threading.Thread(target=self._decode, name="live-decoder", daemon=True)
        self._thread.start()

    def push(self, data: bytes) -> NDArray[np.float32]:
        self._check_magic(data)
        self._pipe.feed(data)
        return self._taken()

    def finish(self) -> NDArray[np.float32]:
        self._pipe.end()
        self._thread.join()
        return self._taken()

    def close(self) -> None:
        self._pipe.end()

    def _check_magic(self, data: bytes) -> None:
        missing = len(_MAGIC[self._container]) - len(self._first)
        self._first += data[:missing]
        if not _MAGIC[self._container].startswith(self._first):
            raise InvalidAudio("The audio could not be decoded", container=self._container)

    def _taken(self) -> NDArray[np.float32]:
        if self._error is not None:
            raise self._error
        blocks, self._blocks = self._blocks, []
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _decode(self) -> None:
        count = 0
        try:
            for block in audio.decode_live(self._pipe, self._container):
                self._blocks.append(block)
                count += len(block)
                if count > self._max_samples:
                    break
        except VoiceAnalyticsError as error:
            self._error = error
        finally:
            self._pipe.abandon()


class _Pipe:
    """Bytes between a thread that feeds and one that reads; feeding waits until all is read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._data = bytearray()
        self._ended = False
        self._wants_more = False
        self._abandoned = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes, at least one; none once the pipe has ended."""
        with self._changed:
            while not self._data and not self._ended:
                self._wants_more = True
                self._changed.notify_all()
                self._changed.wait()
            data = bytes(self._data[:size])
            del self._data[:size]
            return data

    def feed(self, data: bytes) -> None:
        """Hand over bytes; come back when the reader wants more, or never will again."""
        with self._changed:
            self._data += data
            self._wants_more = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._wants_more or self._ended or self._abandoned)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """The reader is gone."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
