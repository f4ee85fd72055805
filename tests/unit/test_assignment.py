"""Words and segments get their speakers, and a measure of doubt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.services.assignment import assign_speakers
from api.services.voice_track import VoiceTrack
from api.types import Segment, Turn, Word

SPOKEN = [Turn(0.0, 2.0, "SPEAKER_00"), Turn(2.0, 4.0, "SPEAKER_01"), Turn(6.0, 7.0, "SPEAKER_00")]


MOMENTS = (0.5, 1.0, 1.5, 2.5, 3.5, 6.2, 6.8)
TRACK = VoiceTrack(
    names=("SPEAKER_00", "SPEAKER_01"),
    moments_s=np.array(MOMENTS),
    cosines=np.array([(1.0, 0.0) if m < 2 or m > 5 else (0.0, 1.0) for m in MOMENTS]),
    voices=np.eye(2),
    windows=np.ones(2),
)


def assign(segments: Sequence[Segment]) -> list[Segment]:
    return assign_speakers(segments, SPOKEN, TRACK)


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, probability=0.9)


class TestAssignSpeakers:
    @pytest.mark.parametrize(
        ("start", "end", "speaker"),
        [
            (0.5, 1.0, "SPEAKER_00"),
            (1.5, 2.2, "SPEAKER_00"),
            (1.8, 2.5, "SPEAKER_01"),
            (4.2, 4.6, "SPEAKER_01"),
            (5.5, 5.9, "SPEAKER_00"),
            (9.0, 9.5, "SPEAKER_00"),
            (3.0, 3.0, "SPEAKER_01"),
        ],
    )
    def test_a_word_goes_to_whom_it_overlaps_most_or_to_the_nearest(
        self, start: float, end: float, speaker: str
    ) -> None:
        (segment,) = assign([Segment(start, end, " one", (word(" one", start, end),))])
        assert segment.words[0].speaker == segment.speaker == speaker

    def test_without_turns_nobody_gets_a_speaker(self) -> None:
        segment = Segment(0, 1, " one", (word(" one", 0, 1),))
        assert assign_speakers([segment], [], None) == [segment]

    def test_a_word_beside_a_border_is_less_sure(self) -> None:
        near, far = assign(
            [Segment(a, a + 0.3, "", (word(" one", a, a + 0.3),)) for a in (1.6, 0.5)]
        )
        assert near.speaker == far.speaker == "SPEAKER_00"
        doubtful, sure = near.words[0].speaker_confidence, far.words[0].speaker_confidence
        assert doubtful and sure and 0.5 < doubtful < 0.99 < sure <= 1.0
        assert near.speaker_confidence == near.words[0].speaker_confidence

    def test_a_segment_is_split_where_the_speaker_changes(self) -> None:
        words = (word(" one", 0.2, 0.8), word(" two", 1.0, 1.6), word(" three", 2.1, 2.6))
        segment = Segment(0.0, 3.0, " one two three", words, tokens=(1, 2, 3), avg_logprob=-0.2)
        first, second = assign([segment])
        assert (first.text, first.speaker, first.start, first.end) == (
            " one two",
            "SPEAKER_00",
            0.2,
            1.6,
        )
        assert (second.text, second.speaker, second.avg_logprob) == (" three", "SPEAKER_01", -0.2)
        assert [w.speaker for w in (*first.words, *second.words)] == [
            "SPEAKER_00",
            "SPEAKER_00",
            "SPEAKER_01",
        ]

    def test_a_segment_of_one_speaker_stays_as_it_is(self) -> None:
        words = (word(" one", 0.2, 0.8),)
        segment = Segment(0.0, 1.0, " one", words, tokens=(7,))
        (kept,) = assign([segment])
        assert (kept.text, kept.tokens, kept.start, kept.speaker) == (
            " one",
            (7,),
            0.0,
            "SPEAKER_00",
        )

    def test_a_segment_without_words_goes_to_whom_it_overlaps_most(self) -> None:
        (kept,) = assign([Segment(1.9, 3.5, " hm")])
        assert kept.speaker == "SPEAKER_01"

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0.0, 8.0), min_size=2, max_size=20))
    def test_splitting_loses_and_doubles_no_word(self, edges: list[float]) -> None:
        edges = sorted(edges)
        words = tuple(word(f" w{i}", a, b) for i, (a, b) in enumerate(pairwise(edges)))
        pieces = assign([Segment(edges[0], edges[-1], "", words)])
        assert [w.word for piece in pieces for w in piece.words] == [w.word for w in words]
        assert all({w.speaker for w in piece.words} == {piece.speaker} for piece in pieces)
