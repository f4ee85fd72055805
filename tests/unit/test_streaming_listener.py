"""Bytes to utterances, with the real detector."""

from __future__ import annotations

import random

import numpy as np
import pytest

from api.streaming.decoder import live_decoder
from api.streaming.endpointer import Span
from api.streaming.listener import Listener
from api.types import SAMPLE_RATE_HZ, Waveform
from api.vad import VoiceActivityDetector, padded
from tests.conftest import SAMPLE
from tests.integration.audio_files import samples
from tests.live_audio import pcm

DETECTOR = VoiceActivityDetector()
CONVERSATION = samples(SAMPLE)


def listener(max_s: float = 60.0) -> Listener:
    decoder = live_decoder("s16le", SAMPLE_RATE_HZ, max_samples=int(max_s * SAMPLE_RATE_HZ))
    return Listener(DETECTOR, decoder, max_samples=int(max_s * SAMPLE_RATE_HZ), silence_s=0.5)


def heard(listening: Listener, data: bytes, sizes: list[int]) -> list[Span]:
    spans, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        spans += listening.hear(data[at : at + size])
        at, turn = at + size, turn + 1
    return spans + listening.finish()


def test_utterances_dont_depend_on_how_the_bytes_came() -> None:
    data = pcm(CONVERSATION)
    whole = heard(listener(), data, [len(data)])
    assert len(whole) >= 4
    sizes = [2 * random.Random(5).randrange(1, 4000) for _ in range(50)]
    assert heard(listener(), data, sizes) == whole
    assert heard(listener(), data, [320]) == whole


def test_utterances_hold_the_speech_that_a_file_has() -> None:
    spans = heard(listener(), pcm(CONVERSATION), [3200])
    regions = padded(DETECTOR.detect(Waveform(CONVERSATION)), 1e9)
    for region in regions:
        assert any(
            span.start_s - 1e-6 <= region.start and region.end <= span.end_s + 1e-6
            for span in spans
        )
    assert sum(s.end_s - s.start_s for s in spans) < len(CONVERSATION) / SAMPLE_RATE_HZ


def test_the_recording_is_what_was_sent() -> None:
    listening = listener()
    heard(listening, pcm(CONVERSATION), [998])
    np.testing.assert_array_equal(listening.recording, CONVERSATION)


def test_what_doesnt_fit_is_dropped_and_told() -> None:
    listening = listener(max_s=5.0)
    spans = heard(listening, pcm(CONVERSATION), [4000])
    assert listening.is_full
    assert listening.num_samples == 5 * SAMPLE_RATE_HZ
    assert spans[-1].end_s <= 5.0
    exact = listener(max_s=len(CONVERSATION) / SAMPLE_RATE_HZ)
    heard(exact, pcm(CONVERSATION), [4000])
    assert not exact.is_full


@pytest.mark.parametrize("count", [0, 1, 511, 513])
def test_streams_shorter_than_a_frame(count: int) -> None:
    listening = listener()
    data = pcm(np.zeros(count, np.float32))
    assert heard(listening, data, [2]) == []
    assert listening.num_samples == count
