"""Signs of an invented text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.whisper_runtime import doubt, search, segments, transcript


def segment(*words: tuple[str, float, float]) -> segments.Segment:
    """Words with their length in seconds and their probability, one after the other."""
    timed, now_s = [], 0.0
    for text, length_s, probability in words:
        timed.append(segments.Word(text, now_s, now_s + length_s, probability))
        now_s += length_s
    return segments.Segment(0.0, now_s, (), (), (), tuple(timed))


@given(
    st.lists(st.integers(0, 99), max_size=30, unique=True),
    st.lists(st.integers(100, 200), min_size=1, max_size=10, unique=True),
    st.lists(st.integers(300, 400), max_size=30, unique=True),
)
def test_a_loop_is_found_wherever_it_is(
    before: list[int], phrase: list[int], after: list[int]
) -> None:
    times = max(3, -(-8 // len(phrase)))
    assert doubt.loops([*before, *phrase * times, *after])
    assert not doubt.loops([*before, *phrase * 2, *after]), "said twice, or for emphasis"
    assert not doubt.loops([*before, *phrase, *after])


@pytest.mark.parametrize("tokens", [[], [5], [5] * 7, [1, 2, 3] * 2])
def test_short_repetitions_are_speech(tokens: list[int]) -> None:
    """A telephone number may well hold three fives, and people do say no, no, no."""
    assert not doubt.loops(tokens)


@pytest.mark.parametrize(
    ("words", "anomalous"),
    [
        ([(" thanks", 0.4, 0.9)], False),
        ([(" thanks", 0.4, 0.1)], True),
        ([(" thanks", 2.9, 0.9)], False),
        ([(" thanks", 3.1, 0.9)], True),
        ([(" thanks", 0.02, 0.9)], True),
        ([(" one", 0.3, 0.9), (" two", 0.3, 0.1), (" three", 0.3, 0.9)], False),
        ([(" one", 0.3, 0.1)] * 3 + [(" two", 0.3, 0.9)] * 4, True),
        ([(" one", 0.3, 0.9)] * 8 + [(" two", 0.3, 0.1)] * 4, False),
        ([(".", 0.0, 0.0), (" one", 0.3, 0.9)], False),
    ],
)
def test_anomalies_are_those_of_openai_whisper(
    words: list[tuple[str, float, float]], anomalous: bool
) -> None:
    assert doubt.is_anomalous(segment(*words)) is anomalous


def test_words_nobody_said_go_where_no_speech_was_heard() -> None:
    heard = search.Hypothesis((), (), -0.4, 0.9, 0.0)
    invented = segment((" you", 0.02, 0.1))
    said = segment((" you", 0.4, 0.9))
    found = transcript.Transcript("en", {"en": 1.0}, heard, (invented,), 5.0)
    assert transcript.without_inventions(found).segments == ()
    mixed = replace(found, segments=(invented, said))
    assert transcript.without_inventions(mixed) == mixed, "one that was said speaks for the other"
    certain = replace(found, hypothesis=replace(heard, no_speech_prob=0.3))
    assert transcript.without_inventions(certain) == certain, "the model did hear speech"
