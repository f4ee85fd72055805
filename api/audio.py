"""Uploaded bytes → `Waveform`: recognise the container, decode, mix to mono, resample to 16 kHz.

FFmpeg's libraries (through PyAV) do the decoding inside this process. An upload is hostile until
shown otherwise, so FFmpeg never guesses: the container is recognised here by its first bytes, that
one demuxer is named to FFmpeg, and only listed decoders may open. Playlists (HLS, DASH, concat, SDP)
are refused by name, and no protocol is left open through which a container could reach a file or
the network. Memory is bounded by the limit on the duration, not by what a file claims to hold.

Everything here is synchronous and CPU-bound: call it off the event loop.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
from api.types import SAMPLE_RATE_HZ, AudioInfo, Waveform

SUPPORTED = "WAV, MP3, FLAC, OGG (Opus, Vorbis), M4A/MP4 (AAC, ALAC), AAC and WebM/Matroska"
"""What may be uploaded, in words for messages."""

MAX_CHANNELS = 8
"""7.1 surround; beyond it are microphone arrays, whose plain mean is no sensible mono."""

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

_PCM = ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le")
_DECODERS = frozenset(
    ("mp3float", "mp3", "mp2", "mp2float", "flac", "opus", "libopus", "vorbis", "aac", "alac")
    + ("pcm_mulaw", "pcm_alaw", "adpcm_ms", "adpcm_ima_wav", "gsm_ms")
    + tuple(f"pcm_{sample}" for sample in _PCM)
)

_OPEN_OPTIONS = {
    "codec_whitelist": ",".join(sorted(_DECODERS)),
    "protocol_whitelist": "none",
    "max_streams": "16",
}

_REFUSED_SIGNATURES = (
    (b"#EXTM3U", "HLS playlist"),
    (b"ffconcat", "concat playlist"),
    (b"v=0", "SDP session"),
    (b"<?xml", "XML document"),
    (b"<MPD", "DASH playlist"),
    (b"[playlist]", "PLS playlist"),
    (b"FORM", "AIFF"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"#!AMR", "AMR"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF/WMA"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"FLV\x01", "FLV"),
    (b"MThd", "MIDI"),
    (b"\x00\x00\x01\xba", "MPEG program stream"),
)
"""First bytes of media that is told apart from "not audio" (415 rather than 400)."""

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")

_MAX_ALLOCATION_BYTES = 32 * 1024 * 1024
"""FFmpeg's largest single allocation: the index of an 8 h MP4 (24 bytes for each AAC frame) fits.
Without the bound an MP4 of 10 kB whose sample table claims 6 * 10^7 samples of one size was seen to
take 2.1 GB and 13 s before its first packet; with it, it is refused within 50 ms."""

# PyAV has no binding of `av_max_alloc`. It holds for the whole process, and has to from the start,
# in a pool's worker too. The handle of PyAV's own module also finds what that links to.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(_MAX_ALLOCATION_BYTES))
av.logging.set_level(None)  # a damaged upload is told to its caller, not printed by FFmpeg

_RESAMPLE_BLOCK_S = 1.0
"""Frames are joined to blocks of this length: one call of the resampler per frame of 20 ms costs
more than the resampling."""


def sniff(data: bytes) -> str:
    """Name of the container that the first bytes show: one of wav, mp3, flac, ogg, mp4, webm, aac.

    Raises:
        InvalidAudio: no bytes, or bytes that are no audio known to us.
        UnsupportedAudioFormat: a known kind of media that isn't decoded here.
    """
    if not data:
        raise InvalidAudio("The upload is empty", file="No bytes were received")
    head = data[:64]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        if head[8:12] == b"WAVE":
            return "wav"
        raise UnsupportedAudioFormat("Unsupported audio format", format=f"Only {SUPPORTED}")
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm"
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    elementary = _sniff_elementary(data)
    if elementary:
        return elementary
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, name in _REFUSED_SIGNATURES:
        if text.startswith(signature):
            raise UnsupportedAudioFormat(f"{name} isn't accepted", format=f"Only {SUPPORTED}")
    raise InvalidAudio("Invalid audio format", format=f"Only {SUPPORTED}")


def _sniff_elementary(data: bytes) -> str | None:
    """FLAC, ADTS AAC or MPEG audio, behind an ID3v2 tag or not; None for anything else."""
    start = _id3_size(data)
    head = data[start : start + 4]
    if head == b"fLaC":
        return "flac"
    if len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer = head[1] >> 1 & 3
        if layer == 0:
            return "aac" if head[1] & 0xF0 == 0xF0 else None
        version_ok = head[1] >> 3 & 3 != 1
        rates_ok = head[2] >> 4 != 15 and head[2] >> 2 & 3 != 3
        return "mp3" if version_ok and rates_ok else None
    return "mp3" if start else None


def _id3_size(data: bytes) -> int:
    """Bytes of a leading ID3v2 tag, header included (id3.org, ID3v2.4.0 structure, section 3.1)."""
    if len(data) < 10 or data[:3] != b"ID3":
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def decode(data: bytes, *, max_duration_s: float) -> Waveform:
    """Decode a whole file into 16 kHz mono, whatever its rate and number of channels.

    Channels are averaged. A file that breaks off gives what there is of it; a packet that can't be
    decoded becomes silence of its length, so that later words keep their times, unless more than
    `MAX_DAMAGED_SHARE` of all packets are like that. Values that are no numbers become silence.

    Args:
        data: the file's bytes.
        max_duration_s: longest recording accepted, in seconds; also what bounds the memory
            (64 kB per second).

    Returns:
        Waveform with samples float32, shape (num_samples,), in [-1, 1], at least one, and its info.

    Raises:
        InvalidAudio: empty, not audio, without a single sample, or too damaged.
        UnsupportedAudioFormat: a container, codec, rate or number of channels not decoded here.
        AudioTooLong: as soon as more than `max_duration_s` came out of the decoder.
    """
    container = sniff(data)
    limit = int(max_duration_s * SAMPLE_RATE_HZ)
    # Pages of this are only taken from the system once written to: a short file stays cheap.
    samples = np.empty(limit, np.float32)
    count = 0
    try:
        with _open(data, container) as source:
            stream = _audio_stream(source)
            info = _info(container, stream)
            for block in _resampled(_frames(source, stream)):
                if count + len(block) > limit:
                    raise AudioTooLong(
                        f"The recording is longer than {max_duration_s:g} s", limit_s=max_duration_s
                    )
                samples[count : count + len(block)] = block
                count += len(block)
    except (av.error.FFmpegError, MemoryError) as error:
        raise InvalidAudio("The audio could not be decoded", container=container) from error
    if count == 0:
        raise InvalidAudio("The file holds no audio", container=container)
    samples.resize(count, refcheck=False)
    return Waveform(samples, info)


def _open(data: bytes, container: str) -> InputContainer:
    source: InputContainer = av.open(
        io.BytesIO(data),
        "r",
        format=_DEMUXERS[container],
        options=_OPEN_OPTIONS,
        metadata_errors="ignore",
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
    """Decode packet by packet; a damaged packet gives silence of its own duration.

    Raises:
        InvalidAudio: at the end, when too many packets were damaged.
    """
    packets = damaged = 0
    rate_hz = stream.codec_context.sample_rate
    for packet in _packets(source, stream):
        packets += 1
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            seconds = float((packet.duration or 0) * (packet.time_base or 0))
            yield _Frame(np.zeros(int(min(seconds, 1.0) * rate_hz), np.float32), rate_hz)
            continue
        for frame in decoded:
            rate_hz = frame.sample_rate
            yield _Frame(_mono(frame), rate_hz)
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
    raw: NDArray[Any] = frame.to_ndarray()
    planes = raw if frame.format.is_planar else raw.reshape(-1, channels).T
    if planes.dtype.kind == "f":
        finite = np.nan_to_num(planes, nan=0.0, posinf=0.0, neginf=0.0)
        mono = np.clip(finite, -1.0, 1.0).mean(axis=0, dtype=np.float32)
    else:
        full_scale = 2.0 ** (8 * planes.dtype.itemsize - 1)
        middle = full_scale if planes.dtype.kind == "u" else 0.0
        mono = (planes.mean(axis=0, dtype=np.float32) - middle) / full_scale
    return np.asarray(mono, np.float32)


def _resampled(frames: Iterator[_Frame]) -> Iterator[NDArray[np.float32]]:
    """Blocks at 16 kHz, clipped to [-1, 1]; a change of rate in mid-stream starts a new resampler.

    soxr's HQ recipe and not FFmpeg's swresample: measured from 48 kHz, a tone at 8.2 kHz comes back
    at -130 dB (swresample: -15 dB), 7.5 kHz loses 0.4 dB (2.9), at half the cost.
    """
    pending: list[NDArray[np.float32]] = []
    pending_count = 0
    resampler: _Resampler | None = None
    for frame in frames:
        if resampler is None or resampler.rate_hz != frame.rate_hz:
            if resampler is not None:
                yield resampler.push(pending, last=True)
            resampler, pending, pending_count = _Resampler(frame.rate_hz), [], 0
        pending.append(frame.samples)
        pending_count += len(frame.samples)
        if pending_count >= _RESAMPLE_BLOCK_S * frame.rate_hz:
            yield resampler.push(pending, last=False)
            pending, pending_count = [], 0
    if resampler is not None:
        yield resampler.push(pending, last=True)


class _Resampler:
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
