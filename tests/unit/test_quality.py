"""The audit flags what a reader should be careful about."""

from __future__ import annotations

import pytest

from api.quality import audit
from api.types import Region, Segment, Word


def _segment(start: float, end: float, **measures: float) -> Segment:
    word = Word(" one", start, end, 0.9)
    return Segment(start, end, " one", words=(word,), **measures)  # type: ignore[arg-type]


def test_words_over_all_speech_raise_no_flag() -> None:
    found = audit([_segment(1.0, 3.0)], [Region(1.0, 3.0)])
    assert (found.speech_s, found.uncovered_speech_s, found.flags) == (2.0, 0.0, ())


def test_silence_is_said() -> None:
    assert audit([], []).flags == ("no_speech",)


def test_a_dropped_chunk_is_flagged() -> None:
    """Batched engines lose speech without a word (faster-whisper#1179); the audit must see it."""
    found = audit([_segment(0.0, 4.0)], [Region(0.0, 4.0), Region(10.0, 14.0)])
    assert found.uncovered_speech_s == pytest.approx(4.0)
    assert "speech_without_words" in found.flags


def test_words_in_silence_are_flagged() -> None:
    found = audit([_segment(0.0, 2.0), _segment(8.0, 9.0)], [Region(0.0, 2.0)])
    assert found.words_outside_speech == 1
    assert "words_outside_speech" in found.flags


def test_doubt_and_repetition_are_flagged() -> None:
    found = audit([_segment(0, 1, avg_logprob=-1.5, compression_ratio=3.0)], [Region(0, 1)])
    assert set(found.flags) == {"low_confidence", "repetition"}
