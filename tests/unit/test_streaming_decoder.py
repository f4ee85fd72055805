"""Live decoding gives what decoding the whole file gives, however the bytes are cut."""

from __future__ import annotations

import io
import random
import threading
import wave
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from api import audio
from api.errors import InvalidAudio, UnsupportedAudioFormat
from api.streaming.decoder import LiveDecoder, live_decoder
from api.types import SAMPLE_RATE_HZ
from tests.integration.audio_files import CLIPS, samples
from tests.live_audio import pcm, recorded
from tests.waveforms import all_of

SPEECH = samples(CLIPS / "digits_george.wav")
LIMIT = 300 * SAMPLE_RATE_HZ


def decoded(decoder: LiveDecoder, data: bytes, sizes: list[int]) -> NDArray[np.float32]:
    """Push the data in pieces of the given sizes, over and over."""
    blocks, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        blocks.append(decoder.push(data[at : at + size]))
        at, turn = at + size, turn + 1
    blocks.append(decoder.finish())
    decoder.close()
    return np.concatenate(blocks)


def wav_of(data: bytes, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(data)
    return buffer.getvalue()


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("sizes", [[2, 640, 4002], [100_000]])
def test_raw_samples_are_decoded_as_a_wav_is(rate_hz: int, sizes: list[int]) -> None:
    """A stream and a file of the same audio can only end with the same words if their samples are
    the same."""
    data = pcm(SPEECH, "s16le", rate_hz)
    live = decoded(live_decoder("s16le", rate_hz, max_samples=LIMIT), data, sizes)
    whole = all_of(audio.decode(wav_of(data, rate_hz), max_duration_s=60))
    assert len(live) == len(whole)
    np.testing.assert_allclose(live, whole, atol=1e-6)
    if rate_hz == SAMPLE_RATE_HZ:
        np.testing.assert_array_equal(live, whole)


def test_floats_are_made_harmless() -> None:
    values = np.array([0.5, np.nan, np.inf, -np.inf, 7.0, -7.0], "<f4")
    live = live_decoder("f32le", SAMPLE_RATE_HZ, max_samples=LIMIT).push(values.tobytes())
    assert live.tolist() == [0.5, 0.0, 0.0, 0.0, 1.0, -1.0]


@pytest.mark.parametrize("container", ["webm", "ogg"])
@pytest.mark.parametrize("sizes", [[1_000_000], [1, 7, 100, 3000], [5000]])
def test_containers_are_decoded_as_files_are(
    container: Literal["webm", "ogg"], sizes: list[int]
) -> None:
    data = b"".join(recorded(SPEECH, container))
    live = decoded(live_decoder(container, 16_000, max_samples=LIMIT), data, sizes)
    whole = all_of(audio.decode(data, max_duration_s=60))
    assert len(live) == len(whole)
    np.testing.assert_allclose(live, whole, atol=1e-5)


@pytest.mark.parametrize("container", ["webm", "ogg"])
def test_audio_comes_out_as_soon_as_it_went_in(container: Literal["webm", "ogg"]) -> None:
    """FFmpeg looks at seconds of audio before its first frame unless it is told not to."""
    chunks = recorded(SPEECH, container)
    decoder = live_decoder(container, 16_000, max_samples=LIMIT)
    total = len(SPEECH)
    came = 0
    for number, chunk in enumerate(chunks):
        came += len(decoder.push(chunk))
        behind = (number + 1) / len(chunks) * total - came
        assert number < 3 or behind < 0.8 * SAMPLE_RATE_HZ
    decoder.close()


def test_a_browser_that_breaks_off_gives_what_it_sent() -> None:
    data = b"".join(recorded(SPEECH, "webm"))
    live = decoded(live_decoder("webm", 16_000, max_samples=LIMIT), data[: len(data) // 2], [999])
    assert len(live) == pytest.approx(len(SPEECH) / 2, rel=0.15)


@pytest.mark.parametrize(
    "data", [b"this is no audio" * 1000, b"\x1a\x45\xdf\xa3" + random.Random(1).randbytes(20_000)]
)
@pytest.mark.parametrize("container", ["webm", "ogg"])
def test_what_is_no_container_is_refused(container: Literal["webm", "ogg"], data: bytes) -> None:
    with pytest.raises((InvalidAudio, UnsupportedAudioFormat)):
        decoded(live_decoder(container, 16_000, max_samples=LIMIT), data, [1000])


def test_few_bytes_that_hold_much_audio_are_not_all_decoded() -> None:
    """Opus' silence takes a few bytes a second: a megabyte could fill the memory."""
    data = b"".join(recorded(np.zeros(60 * SAMPLE_RATE_HZ, np.float32), "ogg"))
    live = decoded(live_decoder("ogg", 16_000, max_samples=SAMPLE_RATE_HZ), data, [len(data)])
    assert SAMPLE_RATE_HZ < len(live) < 2 * SAMPLE_RATE_HZ


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    decoder = live_decoder("webm", 16_000, max_samples=LIMIT)
    decoder.push(recorded(SPEECH, "webm")[0])
    assert threading.active_count() == before + 1
    decoder.close()
    for thread in threading.enumerate():
        if thread.name == "live-decoder":
            thread.join(5)
    assert threading.active_count() == before
