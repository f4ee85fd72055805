"""Conversation analytics against conversations whose truth is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conversation import analyse, emotions, speakers
from api.types import Emotion, Segment, Turn, Word

A, B = "SPEAKER_00", "SPEAKER_01"


def _segment(
    start: float, end: float, speaker: str, text: str, label: str | None = None
) -> Segment:
    words = tuple(Word(f" {w}", start, end, 1.0, speaker) for w in text.split())
    emotion = Emotion(label, {label: 1.0}) if label else None
    return Segment(start, end, text, words=words, speaker=speaker, emotion=emotion)


def test_a_dialogue_without_overlap() -> None:
    turns = [Turn(1.0, 3.0, A), Turn(4.0, 7.0, B), Turn(7.0, 8.0, A)]
    found = analyse(turns, [_segment(1.0, 3.0, A, "one two three")], duration_s=10.0)
    assert found.talk_time == {A: pytest.approx(3.0), B: pytest.approx(3.0)}
    assert found.non_talk_time == pytest.approx(4.0)
    assert found.overlap == 0
    assert found.interruptions == 0
    assert found.words_per_minute[A] == pytest.approx(60.0)
    assert found.words_per_minute[B] == 0


def test_cutting_in_and_keeping_the_floor_is_an_interruption() -> None:
    found = analyse([Turn(0.0, 5.0, A), Turn(4.0, 8.0, B)], [], duration_s=8.0)
    assert found.interruptions == 1
    assert found.overlap == pytest.approx(1.0)
    assert found.non_talk_time == 0


def test_a_word_of_assent_is_no_interruption() -> None:
    found = analyse([Turn(0.0, 5.0, A), Turn(2.0, 2.4, B)], [], duration_s=5.0)
    assert found.interruptions == 0
    assert found.overlap == pytest.approx(0.4)


def test_nobody_speaks() -> None:
    found = analyse([], [], duration_s=3.0)
    assert found.talk_time == {}
    assert found.non_talk_time == 3.0


def test_emotions_are_ordered_by_how_long_they_were_heard() -> None:
    segments = [
        _segment(0, 1, A, "one", "angry"),
        _segment(1, 4, B, "two", "neutral"),
        _segment(4, 5, A, "two", "neutral"),
    ]
    assert emotions(segments) == ("neutral", "angry")
    first, second = speakers([Turn(0, 1, A), Turn(1, 4, B), Turn(4, 5, A)], segments)
    assert (first.id, first.turns, first.emotions) == (A, 2, {"angry": 0.5, "neutral": 0.5})
    assert (second.id, second.talk_time) == (B, 3)


def test_a_pause_does_not_end_a_turn() -> None:
    first, second = speakers([Turn(0, 1, A), Turn(1.5, 2, A), Turn(3, 4, B)], [])
    assert (first.turns, first.talk_time, second.turns) == (1, 1.5, 1)


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.floats(0.01, 10), st.sampled_from([A, B, "SPEAKER_02"])),
        max_size=12,
    )
)
def test_time_adds_up(drawn: list[tuple[float, float, str]]) -> None:
    """Union and silence make the whole, and overlap is what the talk times count twice."""
    turns = [Turn(start, start + length, who) for start, length, who in drawn]
    found = analyse(turns, [], duration_s=60.0)
    frames = [sum(t.start <= f / 100 < t.end for t in turns) for f in range(6000)]
    assert 60 - found.non_talk_time == pytest.approx(sum(n >= 1 for n in frames) / 100, abs=0.3)
    assert found.overlap == pytest.approx(sum(n >= 2 for n in frames) / 100, abs=0.3)
    assert found.interruptions < max(1, len(turns))
