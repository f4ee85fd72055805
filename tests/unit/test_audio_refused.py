"""What is no audio, hostile or damaged: refused, or decoded as far as it goes; limits."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.audio import decode
from api.errors import AudioTooLong, InvalidAudio, UnsupportedAudioFormat, ValidationError
from api.types import SAMPLE_RATE_HZ
from tests.encoded_audio import encode, signal, similarity, wav
from tests.waveforms import all_of


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 4096, b"hello, I am no audio", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 64],
    ids=["empty", "zeros", "text", "pdf", "png"],
)
def test_what_is_not_audio_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidAudio):
        decode(data, max_duration_s=10)


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        b"\xef\xbb\xbf\n#EXTM3U\nhttp://127.0.0.1/a.mp3\n",
        b"[playlist]\nFile1=http://127.0.0.1/a.mp3\n",
        b"FORM\0\0\0\x10AIFFCOMM",
        b"RIFF\0\0\0\x10AVI LIST",
        b"#!AMR\n" + b"\0" * 32,
    ],
    ids=["hls", "concat", "sdp", "dash", "hls-bom", "pls", "aiff", "avi", "amr"],
)
def test_other_media_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedAudioFormat):
        decode(data, max_duration_s=10)


def test_a_playlist_inside_a_container_opens_nothing() -> None:
    """A playlist dressed up with an ID3 tag once made FFmpeg read local files (its "HLS" hole)."""
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"
    with pytest.raises(InvalidAudio):
        decode(b"ID3\x04\0\0\0\0\0\0" + playlist, max_duration_s=10)


def test_a_codec_that_is_not_listed_is_unsupported() -> None:
    data = encode(signal(48_000), 48_000, muxer="matroska", codec="ac3", sample_format="fltp")
    with pytest.raises(UnsupportedAudioFormat, match="codec"):
        decode(data, max_duration_s=10)


def test_a_video_without_sound_is_unsupported() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for packet in [*video.encode(picture), *video.encode(None)]:
            container.mux(packet)
    with pytest.raises(UnsupportedAudioFormat, match="no audio track"):
        decode(buffer.getvalue(), max_duration_s=10)


@pytest.mark.parametrize(("rate_hz", "channels"), [(2_000, 1), (384_000, 1), (16_000, 33)])
def test_rates_and_channels_have_limits(rate_hz: int, channels: int) -> None:
    data = wav(np.zeros(channels * 4000, np.int16), rate_hz, channels=channels)
    with pytest.raises(UnsupportedAudioFormat):
        decode(data, max_duration_s=10)


def test_a_header_without_samples_is_invalid() -> None:
    with pytest.raises(InvalidAudio, match="no audio"):
        decode(wav(np.zeros(0, np.int16), SAMPLE_RATE_HZ), max_duration_s=10)


def test_the_limit_on_the_duration_is_exact() -> None:
    data = wav(np.zeros(SAMPLE_RATE_HZ * 2, np.int16), SAMPLE_RATE_HZ)
    assert decode(data, max_duration_s=2).duration_s == 2
    with pytest.raises(AudioTooLong) as caught:
        decode(data, max_duration_s=1.99)
    assert caught.value.details == {"limit_s": 1.99}


@pytest.mark.parametrize(
    ("muxer", "codec", "sample_format"), [("flac", "flac", "s16"), ("ogg", "libopus", "flt")]
)
def test_a_length_bomb_stops_early(muxer: str, codec: str, sample_format: str) -> None:
    """Twenty minutes of silence take a few kilobytes; no more than the limit may be decoded."""
    silence = np.zeros((1, 48_000 * 1200), np.float32)
    data = encode(silence, 48_000, muxer=muxer, codec=codec, sample_format=sample_format)
    assert len(data) < len(silence[0]) / 60
    tracemalloc.start()
    try:
        with pytest.raises(AudioTooLong):
            decode(data, max_duration_s=10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(data) + 8 * 10 * SAMPLE_RATE_HZ


def test_an_mp4_that_claims_a_giant_sample_table_is_refused() -> None:
    """A file of 10 kB made FFmpeg take 2 GB for the index of samples that don't exist."""
    mp4 = bytearray(encode(signal(48_000), 48_000, muxer="ipod", codec="aac", sample_format="fltp"))
    claimed = 60_000_000
    struct.pack_into(">II", mp4, mp4.index(b"stsz") + 8, 1, claimed)
    struct.pack_into(">II", mp4, mp4.index(b"stts") + 12, claimed, 1024)
    struct.pack_into(">II", mp4, mp4.index(b"stsc") + 12, 1, claimed)
    before_kb = resident_kb()
    with pytest.raises(InvalidAudio):
        decode(bytes(mp4), max_duration_s=10)
    assert resident_kb() - before_kb < 200_000


def resident_kb() -> int:
    """The process's largest resident memory so far."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1])


KINDS = [("wav", "pcm_s16le", "s16"), ("mp3", "libmp3lame", "fltp"), ("flac", "flac", "s16")]
KINDS += [("ogg", "libopus", "flt"), ("ipod", "aac", "fltp"), ("webm", "libopus", "flt")]


@pytest.fixture(scope="module", params=KINDS, ids=[kind[0] for kind in KINDS])
def file(request: pytest.FixtureRequest) -> Iterator[tuple[str, bytes]]:
    muxer, codec, sample_format = request.param
    data = encode(
        signal(48_000, 3.0), 48_000, muxer=muxer, codec=codec, sample_format=sample_format
    )
    yield muxer, data


def test_a_file_that_breaks_off_gives_its_first_part(file: tuple[str, bytes]) -> None:
    muxer, data = file
    if muxer == "ipod":  # its index is at the end
        with pytest.raises(InvalidAudio):
            decode(data[: len(data) // 2], max_duration_s=10)
        return
    waveform = decode(data[: len(data) * 2 // 3], max_duration_s=10)
    assert 1.0 < waveform.duration_s < 2.6
    wanted = signal(SAMPLE_RATE_HZ, 3.0)[0]
    assert similarity(all_of(waveform), wanted[: waveform.num_samples]) > 0.97


def test_a_damaged_packet_keeps_later_times() -> None:
    """Words behind a damaged stretch were early by its length when the stretch was left out."""
    data = bytearray(
        encode(signal(48_000, 3.0), 48_000, muxer="ipod", codec="aac", sample_format="fltp")
    )
    start = data.index(b"mdat") + 4
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
    damaged = packets[60]
    position = damaged.pos
    assert position is not None and position >= start
    data[position : position + damaged.size] = b"\xff" * damaged.size
    waveform = decode(bytes(data), max_duration_s=10)
    wanted = signal(SAMPLE_RATE_HZ, 3.0)[0]
    behind = int(2.0 * SAMPLE_RATE_HZ)
    assert similarity(all_of(waveform)[behind:], wanted[behind:]) > 0.97


def test_a_file_that_is_mostly_damaged_is_invalid() -> None:
    data = bytearray(
        encode(signal(48_000, 3.0), 48_000, muxer="ipod", codec="aac", sample_format="fltp")
    )
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start + 2000 : end] = b"\xff" * (end - start - 2000)
    with pytest.raises(InvalidAudio):
        decode(bytes(data), max_duration_s=10)


@given(st.binary(max_size=400), st.sampled_from(["", "RIFF", "fLaC", "OggS", "ID3", "mp4", "mkv"]))
@settings(max_examples=150, deadline=None)
def test_random_bytes_raise_only_our_errors(noise: bytes, prefix: str) -> None:
    heads = {
        "RIFF": b"RIFF\xff\0\0\0WAVEfmt ",
        "fLaC": b"fLaC",
        "OggS": b"OggS\0",
        "ID3": b"ID3\x04\0\0\0\0\0\0",
        "mp4": b"\0\0\0\x18ftypM4A ",
        "mkv": b"\x1a\x45\xdf\xa3",
    }
    with contextlib.suppress(ValidationError):
        decode(heads.get(prefix, b"") + noise, max_duration_s=1)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_mutated_files_decode_or_raise_only_our_errors(
    file: tuple[str, bytes], data: st.DataObject
) -> None:
    mutated = bytearray(file[1])
    for _ in range(data.draw(st.integers(1, 12))):
        # Headers are short and matter most: half of the changes go there.
        last = data.draw(st.sampled_from([200, len(mutated) - 1]))
        mutated[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    try:
        waveform = decode(bytes(mutated), max_duration_s=5)
    except ValidationError:
        return
    assert np.isfinite(all_of(waveform)).all()
    assert 0 < waveform.duration_s <= 5
