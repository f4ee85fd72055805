"""Decoding: every format by a real encoder."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from api.audio import decode
from api.sniff import sniff
from api.types import SAMPLE_RATE_HZ
from tests.encoded_audio import encode, signal, similarity, sound, wav
from tests.waveforms import all_of

DATA = Path(__file__).parents[1] / "data"


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


@pytest.mark.parametrize("path", sorted(DATA.glob("*.wav")), ids=lambda path: path.stem)
def test_the_sample_clips_decode(path: Path) -> None:
    waveform = decode(path.read_bytes(), max_duration_s=30)
    assert waveform.duration_s > 0.2
    assert np.abs(all_of(waveform)).max() > 0.1
