"""Utterances from synthetic speech probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.streaming.endpointer import Endpointer, Span
from api.types import SAMPLE_RATE_HZ
from api.vad import FRAME_SAMPLES, SpeechTracker, VadSettings

FRAMES_PER_S = SAMPLE_RATE_HZ / FRAME_SAMPLES
VAD = VadSettings()


def is_voice(*_: int) -> bool:
    return True


def spoken(*lengths_s: float) -> list[float]:
    """Probabilities of alternating silence and speech, beginning with silence."""
    frames: list[float] = []
    for number, length_s in enumerate(lengths_s):
        frames += [0.9 if number % 2 else 0.02] * round(length_s * FRAMES_PER_S)
    return frames


def utterances(
    probabilities: Sequence[float],
    energies: Sequence[float] | None = None,
    *,
    silence_s: float = 0.5,
    max_s: float = 30.0,
) -> list[Span]:
    endpointer = Endpointer(VAD, is_voice, silence_s=silence_s, max_s=max_s)
    energies = energies or probabilities
    pairs = zip(probabilities, energies, strict=True)
    spans = [endpointer.push(p, e) for p, e in pairs]
    spans.append(endpointer.finish())
    return [span for span in spans if span]


def test_what_is_no_voice_is_no_utterance() -> None:
    endpointer = Endpointer(VAD, lambda *_: False, silence_s=0.5)
    spans = [endpointer.push(p, p) for p in spoken(1, 1, 1)]
    assert [*spans, endpointer.finish()] == [None] * (len(spans) + 1)
    assert endpointer.current_start is None


def test_speech_between_silences_is_one_utterance_with_padding() -> None:
    (span,) = utterances(spoken(1, 2, 1))
    assert span.start_s == pytest.approx(1 - VAD.pad_start_s, abs=0.035)
    assert span.end_s == pytest.approx(3 + VAD.pad_end_s, abs=0.035)


@pytest.mark.parametrize("pause_s, count", [(0.3, 1), (0.45, 1), (0.6, 2), (2.0, 2)])
def test_a_pause_ends_an_utterance_when_it_is_long_enough(pause_s: float, count: int) -> None:
    assert len(utterances(spoken(0.5, 1, pause_s, 1, 1))) == count


def test_an_utterance_is_given_as_soon_as_the_silence_is_long_enough() -> None:
    endpointer = Endpointer(VAD, is_voice, silence_s=0.5)
    given_at = [
        number for number, p in enumerate(spoken(0.5, 1, 3)) if endpointer.push(p, p) is not None
    ]
    assert given_at == [pytest.approx((0.5 + 1 + 0.5) * FRAMES_PER_S, abs=2)]


def test_a_click_is_no_utterance() -> None:
    assert utterances(spoken(1, 0.06, 1)) == []
    assert len(utterances(spoken(1, 1, 0.3, 0.06, 1))) == 1


def test_silence_and_an_empty_stream_give_none() -> None:
    assert utterances(spoken(5)) == utterances([]) == []


def test_the_end_of_the_stream_ends_an_utterance() -> None:
    (span,) = utterances(spoken(1, 2))
    assert span.end == len(spoken(1, 2)) * FRAME_SAMPLES


def test_where_an_utterance_under_way_begins_is_known() -> None:
    endpointer = Endpointer(VAD, is_voice, silence_s=0.5)
    for p in spoken(1, 1):
        endpointer.push(p, p)
    assert endpointer.current_start == pytest.approx(0.9 * SAMPLE_RATE_HZ, abs=FRAME_SAMPLES)
    for p in spoken(1):
        endpointer.push(p, p)
    assert endpointer.current_start is None


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    probabilities = spoken(1, 40, 1)
    energies = [1.0] * len(probabilities)
    quiet = round(24 * FRAMES_PER_S)
    energies[quiet] = 0.1
    energies[round(10 * FRAMES_PER_S)] = 0.0  # quieter, but it would make two short ones
    first, second = utterances(probabilities, energies)
    assert first.end == second.start == quiet * FRAME_SAMPLES + FRAME_SAMPLES // 2
    assert second.end_s == pytest.approx(41 + VAD.pad_end_s, abs=0.035)


def test_long_speech_is_covered_without_gap_or_overlap() -> None:
    spans = utterances(spoken(0.5, 100, 1))
    assert len(spans) >= 4
    assert all(span.end_s - span.start_s <= 30 for span in spans)
    assert all(before.end == after.start for before, after in pairwise(spans))


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 60), st.floats(0, 1)), min_size=1, max_size=30
    ),
    st.sampled_from([0.2, 0.5, 1.0]),
)
def test_no_speech_is_lost_or_doubled(
    runs: list[tuple[float, int, float]], silence_s: float
) -> None:
    """Whatever the probabilities: what counts as speech in a file is in exactly one utterance."""
    probabilities = [p for p, count, _ in runs for _ in range(count)]
    energies = [e for _, count, e in runs for _ in range(count)]
    spans = utterances(probabilities, energies, silence_s=silence_s, max_s=3.0)
    for span in spans:
        assert 0 <= span.start < span.end <= len(probabilities) * FRAME_SAMPLES
        assert span.end_s - span.start_s <= 3.0
    for before, after in pairwise(spans):
        assert before.end <= after.start
    tracker = SpeechTracker(VAD, is_voice)
    regions = [tracker.push(p) for p in probabilities]
    regions.append(tracker.finish())
    for region in filter(None, regions):
        for frame in range(*region):
            middle = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
            assert any(span.start <= middle <= span.end for span in spans)
