"""Decoding: every format by a real encoder, hostile and damaged files, limits."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.audio import decode
from api.errors import AudioTooLong, InvalidAudio, UnsupportedAudioFormat, ValidationError
from api.sniff import sniff
from api.types import SAMPLE_RATE_HZ
from tests.waveforms import all_of

DATA = Path(__file__).parents[1] / "data"


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


FORMATS = [
    ("wav", "pcm_u8", "u8", 8_000, 1, "wav", 0.99),
    ("wav", "pcm_s16le", "s16", 44_100, 2, "wav", 0.9999),
    ("wav", "pcm_s24le", "s32", 48_000, 6, "wav", 0.9999),
    ("wav", "pcm_s32le", "s32", 192_000, 1, "wav", 0.9999),
    ("wav", "pcm_f32le", "flt", 16_000, 8, "wav", 0.9999),
    ("wav", "pcm_mulaw", "s16", 8_000, 1, "wav", 0.99),
    ("wav", "pcm_alaw", "s16", 8_000, 1, "wav", 0.99),
    ("wav", "adpcm_ms", "s16", 22_050, 1, "wav", 0.99),
    ("mp3", "libmp3lame", "fltp", 44_100, 2, "mp3", 0.99),
    ("mp3", "libmp3lame", "fltp", 16_000, 1, "mp3", 0.99),
    ("flac", "flac", "s16", 44_100, 2, "flac", 0.9999),
    ("ogg", "libopus", "flt", 48_000, 2, "ogg", 0.99),
    ("ogg", "vorbis", "fltp", 44_100, 2, "ogg", 0.98),
    ("ogg", "flac", "s16", 16_000, 1, "ogg", 0.9999),
    ("ipod", "aac", "fltp", 44_100, 2, "mp4", 0.99),
    ("ipod", "alac", "s16p", 44_100, 2, "mp4", 0.9999),
    ("adts", "aac", "fltp", 32_000, 1, "aac", 0.99),
    ("webm", "libopus", "flt", 48_000, 1, "webm", 0.99),
    ("matroska", "aac", "fltp", 48_000, 8, "webm", 0.98),
    ("matroska", "pcm_s16le", "s16", 11_025, 2, "webm", 0.9999),
]


@pytest.mark.parametrize(
    ("muxer", "codec", "sample_format", "rate_hz", "channels", "container", "likeness"),
    FORMATS,
    ids=[f"{row[0]}-{row[1]}-{row[3]}" for row in FORMATS],
)
def test_round_trip(
    muxer: str,
    codec: str,
    sample_format: str,
    rate_hz: int,
    channels: int,
    container: str,
    likeness: float,
) -> None:
    data = encode(
        signal(rate_hz, channels=channels),
        rate_hz,
        muxer=muxer,
        codec=codec,
        sample_format=sample_format,
    )
    waveform = decode(data, max_duration_s=10)

    assert sniff(io.BytesIO(data)) == container
    assert waveform.info is not None
    assert waveform.info.container == container
    assert (waveform.info.sample_rate_hz, waveform.info.channels) == (rate_hz, channels)
    assert all_of(waveform).dtype == np.float32
    assert np.abs(all_of(waveform)).max() <= 1.0
    # AAC in ADTS can't say that its first and last frames are filling.
    assert waveform.duration_s == pytest.approx(1.5, abs=0.07)
    wanted = signal(SAMPLE_RATE_HZ)[0]
    delay = 1024 * SAMPLE_RATE_HZ // rate_hz if muxer == "adts" else 0
    assert similarity(all_of(waveform)[delay:], wanted) > likeness


def test_samples_at_16_khz_are_taken_over_exactly() -> None:
    samples = np.arange(-32768, 32768, 7, dtype=np.int16)
    waveform = decode(wav(samples, SAMPLE_RATE_HZ), max_duration_s=10)
    np.testing.assert_array_equal(all_of(waveform), samples / np.float32(32768))


def test_channels_are_averaged() -> None:
    left = np.full(1600, 8192, np.int16)
    right = np.full(1600, -4096, np.int16)
    both = np.stack((left, right), axis=1)
    waveform = decode(wav(both, SAMPLE_RATE_HZ, channels=2), max_duration_s=1)
    np.testing.assert_allclose(all_of(waveform), 0.0625, atol=1e-7)


def test_resampling_does_not_alias() -> None:
    """A tone above 8 kHz must vanish, not fold down into the band of speech."""
    t = np.arange(48_000) / 48_000
    tone = (0.5 * np.sin(2 * np.pi * 8_500 * t)).astype(np.float32)
    waveform = decode(wav(tone, 48_000, format_tag=3), max_duration_s=2)
    assert np.abs(all_of(waveform)[800:-800]).max() < 1e-4


def test_values_that_are_no_numbers_become_silence_and_the_rest_is_clipped() -> None:
    samples = np.array([0.25, np.nan, np.inf, -np.inf, 3.0, -1e30] * 300, np.float32)
    waveform = decode(wav(samples, SAMPLE_RATE_HZ, format_tag=3), max_duration_s=1)
    np.testing.assert_array_equal(all_of(waveform)[:6], [0.25, 0.0, 0.0, 0.0, 1.0, -1.0])


def test_video_is_ignored_and_its_sound_decoded() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for _ in range(15):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            for packet in video.encode(picture):
                container.mux(packet)
        heard = sound(signal(SAMPLE_RATE_HZ), SAMPLE_RATE_HZ, "mono")
        for packet in [*audio.encode(heard), *audio.encode(None), *video.encode(None)]:
            container.mux(packet)
    waveform = decode(buffer.getvalue(), max_duration_s=10)
    assert similarity(all_of(waveform), signal(SAMPLE_RATE_HZ)[0]) > 0.99


def test_a_file_whose_rate_changes_on_the_way_is_decoded_whole() -> None:
    """Joined MP3 files are common; the second part must not be played at the first's speed."""
    parts = [
        encode(signal(rate), rate, muxer="mp3", codec="libmp3lame", sample_format="fltp")
        for rate in (44_100, 48_000)
    ]
    second_frame = re.search(rb"\xff[\xfa\xfb]", parts[1])
    assert second_frame is not None
    waveform = decode(parts[0] + parts[1][second_frame.start() :], max_duration_s=10)
    assert waveform.duration_s == pytest.approx(3.0, abs=0.15)


def test_many_channels_are_averaged() -> None:
    """A microphone array; its layout has no name."""
    samples = np.tile(np.arange(12, dtype=np.int16) * 100, (1600, 1))
    waveform = decode(wav(samples, SAMPLE_RATE_HZ, channels=12), max_duration_s=1)
    np.testing.assert_allclose(all_of(waveform), 550 / 32768, atol=1e-7)


def test_a_title_in_another_encoding_costs_nothing() -> None:
    """PyAV up to 18 raises UnicodeDecodeError for a Latin-1 title unless told otherwise."""
    plain = wav(np.full(3200, 1000, np.int16), SAMPLE_RATE_HZ)
    title = b"INFOINAM" + struct.pack("<I", 6) + b"M\xfcller"
    tagged = plain[:36] + b"LIST" + struct.pack("<I", len(title)) + title + plain[36:]
    assert decode(tagged, max_duration_s=1).duration_s == 0.2


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


@pytest.mark.parametrize("path", sorted(DATA.glob("*.wav")), ids=lambda path: path.stem)
def test_the_sample_clips_decode(path: Path) -> None:
    waveform = decode(path.read_bytes(), max_duration_s=30)
    assert waveform.duration_s > 0.2
    assert np.abs(all_of(waveform)).max() > 0.1
