"""Uploaded bytes → `Waveform`: recognise the container, decode, mix to mono, resample to 16 kHz.

FFmpeg's libraries (through PyAV) do the decoding inside this process. An upload is hostile until
shown otherwise, so FFmpeg never guesses: the container is recognised here by its first bytes, that
one demuxer is named to FFmpeg, and only listed decoders may open. Playlists (HLS, DASH, concat) are
refused by name, and no protocol is left open through which a container could reach a file or the
network. Memory is bounded whatever a file claims to hold, and however long it is.

Everything here is synchronous and CPU-bound: call it off the event loop.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import av._core
import av.error
import av.logging
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from api.errors import AudioTooLong, InvalidAudio, UnsupportedAudioFormat
from api.sample_file import SampleCollector
from api.sniff import SUPPORTED, sniff
from api.types import SAMPLE_RATE_HZ, AudioInfo, OnProgress, Waveform, unheard

MAX_CHANNELS = 32
"""Covers surround sound and microphone arrays; a header may claim up to 65,535."""

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
"""Below the lowest there is no intelligible speech; the highest is that of studio equipment."""

MAX_DAMAGED_SHARE = 0.1
"""Of the packets: a file beyond it is refused, for too much of what was said is lost."""

_DEMUXERS = {
    "wav": "wav",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "ogg",
    "mp4": "mov",
    "webm": "matroska",
    "aac": "aac",
}

_DECODERS = frozenset(
    "mp3float mp3 mp2float mp2 flac opus libopus vorbis aac alac pcm_mulaw pcm_alaw adpcm_ms "
    "adpcm_ima_wav gsm_ms pcm_u8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be "
    "pcm_f32le pcm_f32be pcm_f64le".split()
)

_SAMPLE_DTYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
    "dbl": np.float64,
}
"""FFmpeg's sample formats, as far as the decoders above give them."""

_OPEN_OPTIONS = {
    "codec_whitelist": ",".join(sorted(_DECODERS)),
    "protocol_whitelist": "none",
    "max_streams": "16",
}

_OPTIONS_OF = {"wav": {"max_size": "16384", "probesize": "16384"}}
"""The header of WAV says all that there is to know. By default FFmpeg looks through the samples for
other codecs in disguise, and cuts them up into packets of 4 kB: both together take 8 ms of 15 s."""

_LIVE_OPTIONS = _OPEN_OPTIONS | {"probesize": "2048", "analyzeduration": "1"}
"""The header of WebM and Ogg says all that there is to know; looking further would cost seconds."""

_LIVE_BLOCK_S = 0.02

_LENIENT_METADATA: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)
"""Titles that aren't UTF-8 mustn't cost the recording; PyAV 19 is lenient of itself."""

_MAX_ALLOCATION_BYTES = 32 * 1024 * 1024
"""FFmpeg's largest single allocation: the index of an 8 h MP4 (24 bytes for each AAC frame) fits.
Without the bound an MP4 of 10 kB whose sample table claims 6 * 10^7 samples of one size was seen to
take 2.1 GB and 13 s before its first packet; with it, it is refused within 50 ms."""

# PyAV has no binding of `av_max_alloc`. It holds for the whole process, and has to from the start,
# in a pool's worker too. The handle of PyAV's own module also finds what that links to.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION_BYTES))
av.logging.set_level(None)  # a damaged upload is told to its caller, not printed by FFmpeg

_MAX_FILLED_S = 10.0
"""Longest silence put in for damaged packets in a row; their durations are the file's own claim."""

_RESAMPLE_BLOCK_S = 1.0
"""Frames are joined to blocks of this length: one call of the resampler per frame of 20 ms costs
more than the resampling."""


IN_MEMORY_S = 600.0
"""Longer recordings lie on disk while they are analysed: 38 MB of memory are enough for one."""


class ByteSource(Protocol):
    """What FFmpeg reads from; one without `seek` is read from front to back."""

    def read(self, size: int, /) -> bytes: ...


def decode(
    source: bytes | Path,
    *,
    max_duration_s: float,
    folder: Path | None = None,
    on_progress: OnProgress = unheard,
) -> Waveform:
    """Decode a whole file into 16 kHz mono, whatever its rate and number of channels.

    Channels are averaged. A file that breaks off gives what there is of it. A packet that can't be
    decoded becomes silence of its length, so that later words keep their times, as long as no more
    than `MAX_DAMAGED_SHARE` of all packets are like that. Values that are no numbers become zero.

    Args:
        source: the file's bytes, or where it lies.
        max_duration_s: longest recording accepted, in seconds.
        folder: on whose disk the samples of recordings above `IN_MEMORY_S` lie, 64 kB per second;
            by default that of temporary files.
        on_progress: hears how much of the file has been read, as stage "decode".

    Returns:
        Waveform of at least one sample, and its info.

    Raises:
        InvalidAudio: empty, not audio, without a single sample, or too damaged.
        UnsupportedAudioFormat: a container, codec, rate or number of channels not decoded here.
        AudioTooLong: as soon as more than `max_duration_s` came out of the decoder.
        StoreUnavailable: the disk has no room for the samples.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        container = sniff(file)
        size_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        limit = int(max_duration_s * SAMPLE_RATE_HZ)
        samples = SampleCollector(min(limit, int(IN_MEMORY_S * SAMPLE_RATE_HZ)), folder)
        try:
            with _open(file, container, _OPEN_OPTIONS | _OPTIONS_OF.get(container, {})) as opened:
                stream = _audio_stream(opened)
                info = _info(container, stream)
                for block in _resampled(_frames(opened, stream), _RESAMPLE_BLOCK_S):
                    if samples.count + len(block) > limit:
                        raise AudioTooLong(
                            f"The recording is longer than {max_duration_s:g} s",
                            limit_s=max_duration_s,
                        )
                    samples.append(block)
                    on_progress("decode", file.tell() / size_bytes)
        except (av.error.FFmpegError, MemoryError) as error:
            raise InvalidAudio("The audio could not be decoded", container=container) from error
    if samples.count == 0:
        raise InvalidAudio("The file holds no audio", container=container)
    return Waveform(samples.collected(), info)


def decode_live(source: ByteSource, container: str) -> Iterator[NDArray[np.float32]]:
    """Decode a recording while it is being made: each block is given as soon as its bytes are here.

    Args:
        source: only its `read` is used; it blocks until there is something, and gives b"" at the
            end. FFmpeg's demuxer asks it for as much as 32 kB, and takes less.
        container: "webm" or "ogg"; here the bytes aren't looked at to tell.

    Yields:
        16 kHz mono, float32, shape (n,), in [-1, 1].

    Raises:
        InvalidAudio, UnsupportedAudioFormat: as `decode`, when the bytes that tell have come.
    """
    try:
        with _open(source, container, _LIVE_OPTIONS) as opened:
            stream = _audio_stream(opened)
            _info(container, stream)
            yield from _resampled(_frames(opened, stream), _LIVE_BLOCK_S)
    except (av.error.FFmpegError, MemoryError) as error:
        raise InvalidAudio("The audio could not be decoded", container=container) from error


def _open(data: ByteSource, container: str, options: dict[str, str]) -> InputContainer:
    source: InputContainer = av.open(
        data, "r", format=_DEMUXERS[container], options=options, **_LENIENT_METADATA
    )
    return source


def _audio_stream(source: InputContainer) -> AudioStream:
    """First audio stream, checked against what is decoded here; pictures and video are ignored."""
    if not source.streams.audio:
        raise UnsupportedAudioFormat("The file has no audio track", format=f"Only {SUPPORTED}")
    stream = source.streams.audio[0]
    codec = stream.codec_context
    if codec is None or codec.codec.name not in _DECODERS:
        raise UnsupportedAudioFormat("Unsupported audio codec", format=f"Only {SUPPORTED}")
    codec.thread_count = 1
    return stream


def _info(container: str, stream: AudioStream) -> AudioInfo:
    codec = stream.codec_context
    if codec.sample_rate <= 0 or codec.channels <= 0:
        raise InvalidAudio("The file holds no audio", container=container)
    _check_shape(codec.sample_rate, codec.channels)
    return AudioInfo(container, codec.codec.canonical_name, codec.sample_rate, codec.channels)


def _check_shape(rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UnsupportedAudioFormat(
            f"A sample rate of {rate_hz} Hz isn't supported",
            sample_rate=f"From {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedAudioFormat(
            f"{channels} channels aren't supported", channels=f"From 1 to {MAX_CHANNELS}"
        )


@dataclass(frozen=True)
class _Frame:
    """Decoded audio at the rate of the file: `samples` float32, shape (n,), mono, in [-1, 1]."""

    samples: NDArray[np.float32]
    rate_hz: int


def _frames(source: InputContainer, stream: AudioStream) -> Iterator[_Frame]:
    """Decode packet by packet; damaged packets give silence of their duration if audio follows.

    Raises:
        InvalidAudio: at the end, when too many packets were damaged.
    """
    packets = damaged = 0
    lost_s = 0.0
    for packet in _packets(source, stream):
        packets += 1
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            lost_s += float((packet.duration or 0) * (packet.time_base or 0))
            continue
        for frame in decoded:
            mono = _mono(frame)
            if lost_s > 0.0:
                silence_s, lost_s = min(lost_s, _MAX_FILLED_S), 0.0
                filling = np.zeros(int(silence_s * frame.sample_rate), np.float32)
                yield _Frame(filling, frame.sample_rate)
            yield _Frame(mono, frame.sample_rate)
    if damaged > MAX_DAMAGED_SHARE * packets:
        raise InvalidAudio("The audio is damaged", damaged_packets=damaged, packets=packets)


def _packets(source: InputContainer, stream: AudioStream) -> Iterator[av.Packet]:
    """The stream's packets, up to the end or to where the container breaks off."""
    demuxed = source.demux(stream)
    while True:
        try:
            packet = next(demuxed)
        except (StopIteration, av.error.FFmpegError):
            return
        yield packet


def _mono(frame: AudioFrame) -> NDArray[np.float32]:
    """Mean over the channels of one frame of any sample format, scaled to [-1, 1], shape (n,).

    Raises:
        UnsupportedAudioFormat: the rate or the channels changed to something not decoded here.
    """
    channels = frame.layout.nb_channels
    _check_shape(frame.sample_rate, channels)
    planes = _planes(frame, channels)
    if planes.dtype.kind == "f":
        finite = np.nan_to_num(planes, nan=0.0, posinf=0.0, neginf=0.0)
        mono = np.clip(finite, -1.0, 1.0).mean(axis=0, dtype=np.float32)
    else:
        full_scale = 2.0 ** (8 * planes.dtype.itemsize - 1)
        middle = full_scale if planes.dtype.kind == "u" else 0.0
        mono = (planes.mean(axis=0, dtype=np.float32) - middle) / full_scale
    return np.asarray(mono, np.float32)


def _planes(frame: AudioFrame, channels: int) -> NDArray[Any]:
    """A frame's samples in its own format, shape (channels, n)."""
    if frame.format.is_planar and channels >= 8:
        frame = _packed(frame)
    dtype = np.dtype(_SAMPLE_DTYPES[frame.format.packed.name])
    wanted = channels if frame.format.is_planar else 1
    count = frame.samples * channels // wanted  # a plane's end is filling
    planes = [np.frombuffer(bytes(plane), dtype, count) for plane in frame.planes]
    return np.stack(planes) if frame.format.is_planar else planes[0].reshape(-1, channels).T


def _packed(frame: AudioFrame) -> AudioFrame:
    """The same samples interleaved, in one plane.

    From eight planes on PyAV (17 to 19) reads past the end of FFmpeg's list of planes: 19 raises an
    error, 18 takes what it finds there for the address of a ninth plane.
    """
    packer = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
    packed: list[AudioFrame] = packer.resample(frame)
    return packed[0]


def _resampled(frames: Iterator[_Frame], block_s: float) -> Iterator[NDArray[np.float32]]:
    """Blocks of at least `block_s` at 16 kHz, clipped to [-1, 1].

    A change of rate in mid-stream starts a new resampler.

    soxr's HQ recipe and not FFmpeg's swresample: measured from 48 kHz, a tone at 8.2 kHz comes back
    at -130 dB (swresample: -15 dB), 7.5 kHz loses 0.4 dB (2.9), at half the cost.
    """
    pending: list[NDArray[np.float32]] = []
    pending_count = 0
    resampler: Resampler | None = None
    for frame in frames:
        if resampler is None or resampler.rate_hz != frame.rate_hz:
            if resampler is not None:
                yield resampler.push(pending, last=True)
            resampler, pending, pending_count = Resampler(frame.rate_hz), [], 0
        pending.append(frame.samples)
        pending_count += len(frame.samples)
        if pending_count >= block_s * frame.rate_hz:
            yield resampler.push(pending, last=False)
            pending, pending_count = [], 0
    if resampler is not None:
        yield resampler.push(pending, last=True)


class Resampler:
    """soxr's streaming resampler from one rate to 16 kHz; a copy where the rates are equal."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._stream = (
            None
            if rate_hz == SAMPLE_RATE_HZ
            else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        )

    def push(self, parts: list[NDArray[np.float32]], *, last: bool) -> NDArray[np.float32]:
        """Take the next samples, give those that are ready; with `last` also what was held back."""
        block = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        if self._stream is not None:
            block = self._stream.resample_chunk(block, last=last)
        return np.clip(block, -1.0, 1.0, out=block)
