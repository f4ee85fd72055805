"""Files crafted to make FFmpeg open a local file or the network: nothing is opened.

Each is first shown to work on an FFmpeg that may open everything, so that the tests can fail.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from api.audio import decode, decode_live
from api.errors import InvalidAudio, UnsupportedAudioFormat
from api.types import SAMPLE_RATE_HZ
from tests.encoded_audio import encode, signal

ANYTHING = {
    "protocol_whitelist": "file,http,tcp,crypto,data,pipe,subfile,concat",
    "allowed_extensions": "ALL",
    "extension_picky": "0",
    "safe": "0",
    "enable_drefs": "1",
    "use_absolute_path": "1",
}


class Bait:
    """A local file and a local HTTP server that notice whoever opens them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "secret.mp3"
        os.mkfifo(self.file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/secret.mp3"
        self.taken: set[str] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=watch) for watch in (self._serve, self._watch)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.01)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.taken.add("url")
                connection.close()

    def _watch(self) -> None:
        """A pipe can be opened for writing only while somebody reads it."""
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                os.close(os.open(self.file, os.O_WRONLY | os.O_NONBLOCK))
                self.taken.add("file")
            time.sleep(0.001)


@pytest.fixture
def bait(tmp_path: Path) -> Iterator[Bait]:
    laid = Bait(tmp_path)
    yield laid
    laid.close()


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def concat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def mp4_of_elsewhere(target: str) -> bytes:
    """An MP4 whose samples lie in another file, named by an alias (QuickTime's data references)."""
    path = target.encode()
    alias = bytes(10) + bytes([1]) + b"v".ljust(27, b"\0") + bytes(12) + bytes([1])
    alias += b"f".ljust(63, b"\0") + bytes(16) + struct.pack(">hh", -1, -1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2)
    alias += struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">II", 0, 1) + entry
    plain = encode(signal(48_000), 48_000, muxer="ipod", codec="aac", sample_format="fltp")
    return _replaced(plain, ["moov", "trak", "mdia", "minf", "dinf", "dref"], dref)


def _replaced(boxes: bytes, path: list[str], content: bytes) -> bytes:
    """MP4 boxes with the content of one replaced, and all sizes above it put right."""
    done, at = b"", 0
    while at < len(boxes):
        size, kind = struct.unpack_from(">I4s", boxes, at)
        inside = boxes[at + 8 : at + size]
        if kind == path[0].encode():
            inside = _replaced(inside, path[1:], content) if path[1:] else content
        done += struct.pack(">I4s", len(inside) + 8, kind) + inside
        at += size
    return done


class Named(io.BytesIO):
    """FFmpeg takes a file for a playlist only where its name says so."""

    name = "playlist.m3u8"


def open_with_everything_allowed(data: bytes) -> None:
    with (
        contextlib.suppress(av.error.FFmpegError, IndexError),
        av.open(Named(data), options=ANYTHING) as source,
    ):
        for _ in source.decode(audio=0):
            break


CRAFTED = {"hls": hls, "concat": concat, "mp4": mp4_of_elsewhere}


@pytest.mark.parametrize(
    "craft, place",
    # An alias has no URLs: its colons part folders.
    [("hls", "file"), ("hls", "url"), ("concat", "file"), ("concat", "url"), ("mp4", "file")],
)
def test_a_file_that_points_elsewhere_opens_nothing(bait: Bait, craft: str, place: str) -> None:
    target = str(bait.file) if place == "file" else bait.url
    if place == "file" and craft == "hls":
        target = f"file:{target}"
    data = CRAFTED[craft](target)
    open_with_everything_allowed(data)
    assert bait.taken == {place}, "the crafted file doesn't do what it should"
    bait.taken.clear()
    with contextlib.suppress(InvalidAudio, UnsupportedAudioFormat):
        decode(data, max_duration_s=10)
    time.sleep(0.05)
    assert bait.taken == set()


DISGUISES = {
    "id3": b"ID3\x04\0\0\0\0\0\0",
    "wav": b"RIFF\xff\xff\0\0WAVE",
    "flac": b"fLaC",
    "ogg": b"OggS",
    "webm": b"\x1a\x45\xdf\xa3",
    "mp4": b"\0\0\0\x08ftyp",
    "mp3": b"\xff\xfb\x90\x64",
    "aac": b"\xff\xf1\x50\x80",
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_playlist_in_disguise_opens_nothing(bait: Bait, disguise: str) -> None:
    for target in (str(bait.file), f"file:{bait.file}", bait.url):
        for text in (hls(target), concat(target)):
            for padding in (b"", bytes(4096)):
                with contextlib.suppress(InvalidAudio, UnsupportedAudioFormat):
                    decode(DISGUISES[disguise] + padding + text, max_duration_s=10)
    time.sleep(0.05)
    assert bait.taken == set()


@pytest.mark.parametrize("container", ["webm", "ogg"])
def test_a_live_stream_opens_nothing(bait: Bait, container: str) -> None:
    for target in (f"file:{bait.file}", bait.url):
        for text in (hls(target), concat(target), mp4_of_elsewhere(target)):
            with contextlib.suppress(InvalidAudio, UnsupportedAudioFormat):
                list(decode_live(io.BytesIO(DISGUISES[container] + text), container))
    time.sleep(0.05)
    assert bait.taken == set()


def test_an_mp4_that_was_taken_apart_still_decodes() -> None:
    """So that it is the reference, and not a slip in crafting, that the tests above are about."""
    plain = encode(signal(48_000), 48_000, muxer="ipod", codec="aac", sample_format="fltp")
    here = struct.pack(">II", 0, 1) + struct.pack(">I4sI", 12, b"url ", 1)
    data = _replaced(plain, ["moov", "trak", "mdia", "minf", "dinf", "dref"], here)
    assert decode(data, max_duration_s=10).num_samples > SAMPLE_RATE_HZ // 2
    assert np.isfinite(decode(data, max_duration_s=10).read(0, 100)).all()
