"""Conversation analytics against conversations whose truth is known."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.conversation import analyse, emotions, speakers
from api.sound import Sound, measure
from api.types import SAMPLE_RATE_HZ, Emotion, Monologue, Segment, Turn, TurnLengths, Word

A, B = "SPEAKER_00", "SPEAKER_01"


def _quiet(duration_s: float) -> Sound:
    return measure([np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32)])


def _segment(
    start: float, end: float, speaker: str, text: str, label: str | None = None
) -> Segment:
    words = tuple(Word(f" {w}", start, end, 1.0, speaker) for w in text.split())
    emotion = Emotion(label, {"neutral": 1.0}) if label else None
    return Segment(start, end, text, words=words, speaker=speaker, emotion=emotion)


def test_a_dialogue_without_overlap() -> None:
    turns = [Turn(1.0, 3.0, A), Turn(4.0, 7.0, B), Turn(7.0, 8.0, A)]
    found = analyse(turns, [_segment(1.0, 3.0, A, "one two three")], _quiet(10.0))
    assert found.talk_time == {A: pytest.approx(3.0), B: pytest.approx(3.0)}
    assert found.non_talk_time == pytest.approx(4.0)
    assert found.overlap == 0
    assert found.interruptions == 0
    assert found.words_per_minute[A] == pytest.approx(60.0)
    assert found.words_per_minute[B] == 0


def test_cutting_in_and_keeping_the_floor_is_an_interruption() -> None:
    found = analyse([Turn(0.0, 5.0, A), Turn(4.0, 8.0, B)], [], _quiet(8.0))
    assert (found.interruptions, found.interruptions_by) == (1, {B: {A: 1}})
    assert found.overlap == pytest.approx(1.0)
    assert found.non_talk_time == 0
    assert found.response_time == {B: -1.0}


def test_a_word_of_assent_is_no_interruption() -> None:
    found = analyse([Turn(0.0, 5.0, A), Turn(2.0, 2.4, B)], [], _quiet(5.0))
    assert (found.interruptions, found.interruptions_by) == (0, {})
    assert found.overlap == pytest.approx(0.4)
    assert found.turn_lengths[A] == TurnLengths(count=1, mean=5.0, median=5.0, longest=5.0)
    assert found.turn_lengths[B].count == 0
    assert found.response_time == {}


def test_nobody_speaks() -> None:
    found = analyse([], [], _quiet(3.0))
    assert found.talk_time == found.talk_share == found.loudness == {}
    assert found.non_talk_time == 3.0
    assert found.longest_monologue is None


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


def test_what_stays_uncertain_is_no_emotion_heard() -> None:
    segments = [_segment(0, 3, A, "one", "uncertain"), _segment(3, 4, A, "two", "sad")]
    assert emotions(segments) == ("sad",)
    (only,) = speakers([Turn(0, 4, A)], segments)
    assert only.emotions == {"uncertain": 0.75, "sad": 0.25}


def test_turns_last_from_first_to_last_sound_until_somebody_else_speaks_alone() -> None:
    turns = [
        Turn(0.0, 2.0, A),
        Turn(3.0, 6.0, A),  # after a pause
        Turn(4.0, 4.5, B),  # a word of assent
        Turn(6.5, 7.5, B),
        Turn(7.25, 9.25, A),
        Turn(10.0, 11.0, B),
    ]
    found = analyse(turns, [], _quiet(12.0))
    assert found.turn_lengths == {
        A: TurnLengths(count=2, mean=4.0, median=4.0, longest=6.0),
        B: TurnLengths(count=2, mean=1.0, median=1.0, longest=1.0),
    }
    assert found.longest_monologue == Monologue(A, 0.0, 6.0)
    assert found.response_time == {B: 0.625, A: -0.25}
    assert found.interruptions_by == {A: {B: 1}}
    assert found.talk_share == {A: pytest.approx(7 / 9.5), B: pytest.approx(2.5 / 9.5)}


def test_three_people_are_told_apart_in_who_interrupts_whom() -> None:
    c = "SPEAKER_02"
    turns = [Turn(0, 4, A), Turn(3, 7, B), Turn(6, 9, c), Turn(8, 12, A), Turn(11.95, 14, B)]
    found = analyse(turns, [], _quiet(14.0))
    assert found.interruptions_by == {B: {A: 1}, c: {B: 1}, A: {c: 1}}
    assert found.interruptions == 3, "50 ms of overlap at the end is nobody's interruption"


def test_who_begin_together_interrupt_nobody() -> None:
    """The longer of two voices that diarization lets begin at once was counted as cutting in."""
    assert analyse([Turn(1, 3, A), Turn(1, 5, B)], [], _quiet(6.0)).interruptions == 0


def test_loudness_is_each_speakers_own() -> None:
    """Where both speak, the louder one would be heard in the other's figure."""
    time_s = np.arange(10 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * 997 * time_s)
    samples = (tone * np.where(time_s < 4, 0.1, 0.01)).astype(np.float32)
    found = analyse([Turn(0.0, 6.0, A), Turn(4.0, 10.0, B)], [], measure([samples]))
    assert found.loudness[A] == pytest.approx(-23.0, abs=0.2)
    assert found.loudness[B] == pytest.approx(-43.0, abs=0.2)


def test_a_pause_does_not_end_a_turn() -> None:
    first, second = speakers([Turn(0, 1, A), Turn(1.5, 2, A), Turn(3, 4, B)], [])
    assert (first.turns, first.talk_time, second.turns) == (1, 1.5, 1)


_TURNS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 100), st.sampled_from([A, B, "SPEAKER_02"])),
    max_size=14,
)
"""Start and length in frames of 100 ms, and the speaker: conversations with exact truth."""


@settings(max_examples=50)
@given(_TURNS)
def test_figures_are_those_counted_frame_by_frame(drawn: list[tuple[int, int, str]]) -> None:
    turns = [Turn(start / 10, (start + length) / 10, who) for start, length, who in drawn]
    frames = [{who for start, n, who in drawn if start <= f < start + n} for f in range(600)]
    names = {who for _, _, who in drawn}
    found = analyse(turns, [], _quiet(60.0))

    talk_time = {who: sum(who in frame for frame in frames) / 10 for who in names}
    total = sum(talk_time.values())
    assert found.talk_time == pytest.approx(talk_time)
    assert found.talk_share == pytest.approx({who: t / total for who, t in talk_time.items()})
    assert found.non_talk_time == pytest.approx(sum(not frame for frame in frames) / 10)
    assert found.overlap == pytest.approx(sum(len(frame) > 1 for frame in frames) / 10)

    alone = [who for frame in frames if len(frame) == 1 for who in frame]
    floor = [who for who, _ in groupby(alone)]
    assert {who: n.count for who, n in found.turn_lengths.items()} == {
        who: floor.count(who) for who in names
    }
    pairs = sum(sum(by.values()) for by in found.interruptions_by.values())
    assert found.interruptions == pairs == _cut_in(frames)


def _cut_in(frames: list[set[str]]) -> int:
    """Starts within a sound that began before and ends before theirs, of the latest to end."""
    runs: list[tuple[int, int]] = []
    for who in {who for frame in frames for who in frame}:
        spoken = {f for f, frame in enumerate(frames) if who in frame}
        starts = sorted(f for f in spoken if f - 1 not in spoken)
        ends = sorted(f + 1 for f in spoken if f + 1 not in spoken)
        runs += zip(starts, ends, strict=True)
    return sum(
        any(s < start < e - 1 and e < end for s, e in runs)  # 100 ms aren't noticed
        and not any(s < start and e >= end for s, e in runs)
        for start, end in runs
    )
