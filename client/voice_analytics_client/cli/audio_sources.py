"""Audio for a live stream: files, standard input, a microphone."""

from __future__ import annotations

import array
import asyncio
import sys
import time
import wave
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import click

Encoding = Literal["s16le", "f32le", "webm", "ogg"]

CONTAINERS: dict[str, Encoding] = {".webm": "webm", ".ogg": "ogg", ".oga": "ogg", ".opus": "ogg"}
SAMPLE_BYTES = {"s16le": 2, "f32le": 4}
FRAME_S = 0.1
FRAME_BYTES = 3200
"""Of what has no rate: containers."""

MICROPHONE_RATE_HZ = 16_000

CONVERT = "ffmpeg -i {} -f s16le -ac 1 -ar 16000 - | voice-analytics stream -"


@dataclass(frozen=True)
class Source:
    """Audio in frames, and how it is to be understood."""

    encoding: Encoding
    sample_rate: int
    frames: Iterator[bytes]

    @property
    def frame_s(self) -> float | None:
        """Length of a full frame; None where only decoding tells."""
        return FRAME_S if self.encoding in SAMPLE_BYTES else None

    def seconds_of(self, frame: bytes) -> float:
        return len(frame) / (self.sample_rate * SAMPLE_BYTES.get(self.encoding, 1))


def of_file(name: str) -> Source:
    """A WAV with 16 bits, whose channels are mixed, or a WebM or Ogg as it is.

    Raises:
        click.UsageError: another kind of file; the message says how to convert it.
    """
    path = Path(name)
    if path.suffix.lower() in CONTAINERS:
        return Source(
            CONTAINERS[path.suffix.lower()], MICROPHONE_RATE_HZ, _chunks(open(path, "rb"))
        )
    try:
        file = wave.open(name, "rb")  # noqa: SIM115 - the frames close it
    except (wave.Error, EOFError) as error:
        raise click.UsageError(
            f"{name} is no WAV, WebM or Ogg ({error}). Any other file goes as raw samples:\n  "
            + CONVERT.format(name)
        ) from error
    if file.getsampwidth() != 2:
        file.close()
        raise click.UsageError(
            f"{name} hasn't 16 bits a sample. It goes as raw samples:\n  " + CONVERT.format(name)
        )
    return Source("s16le", file.getframerate(), _mixed(file))


def of_stdin(encoding: Encoding, sample_rate: int) -> Source:
    return Source(encoding, sample_rate, _chunks(sys.stdin.buffer))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        # What is there is passed on at once: standard input may be live.
        read = getattr(file, "read1", file.read)
        while chunk := read(FRAME_BYTES):
            yield chunk


def _mixed(file: wave.Wave_read) -> Iterator[bytes]:
    with file:
        channels = file.getnchannels()
        while frames := file.readframes(round(file.getframerate() * FRAME_S)):
            if channels == 1:
                yield frames
                continue
            samples = array.array("h", frames)
            if sys.byteorder == "big":
                samples.byteswap()
            sums = map(sum, zip(*(samples[n::channels] for n in range(channels)), strict=True))
            mixed = array.array("h", (total // channels for total in sums))
            if sys.byteorder == "big":
                mixed.byteswap()
            yield mixed.tobytes()


async def paced(source: Source, *, realtime: bool) -> AsyncIterator[bytes]:
    """The frames, no faster than they were spoken if `realtime`."""
    due = time.monotonic()
    frames = iter(source.frames)
    while (frame := await asyncio.to_thread(next, frames, None)) is not None:
        if realtime:
            due += source.seconds_of(frame)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield frame


async def microphone() -> AsyncIterator[bytes]:
    """The default microphone, 16-bit at 16 kHz, until the task is cancelled.

    Raises:
        click.UsageError: there is none, or the package that reads it isn't installed.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise click.UsageError(
            "A microphone needs: pip install 'voice-analytics-client[microphone]'"
        ) from error
    except OSError as error:  # sounddevice without PortAudio
        raise click.UsageError(f"A microphone needs PortAudio: {error}") from error
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    def listen(data: object, *_: object) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, bytes(data))  # type: ignore[call-overload]

    try:
        microphone = sounddevice.RawInputStream(
            samplerate=MICROPHONE_RATE_HZ, channels=1, dtype="int16", callback=listen
        )
    except sounddevice.PortAudioError as error:
        raise click.UsageError(f"There is no microphone: {error}") from error
    with microphone:
        while True:
            yield await heard.get()
