"""Decoded tokens to segments and words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.whisper_runtime import RELEASE, segments, tokenization
from tests.whisper_vocabulary import BEGIN, GENERATION, OPENAI, histories

TOKENIZER = tokenization.WhisperTokenizer(RELEASE / "tokenizer.json", OPENAI.eot)


def stamp(time_s: float) -> int:
    return BEGIN + round(time_s / 0.02)


def split(tokens: list[int], duration_s: float = 30.0) -> list[segments.Segment]:
    return segments.split_segments(tokens, [-0.5] * len(tokens), GENERATION.tokens, duration_s)


def spans(found: list[segments.Segment]) -> list[tuple[float, float, tuple[int, ...]]]:
    return [(s.start_s, s.end_s, s.text_tokens) for s in found]


def test_timestamps_bound_segments() -> None:
    tokens = [stamp(0.5), 10, 11, stamp(2.0), stamp(2.4), 12, stamp(3.0)]
    assert spans(split(tokens)) == [(0.5, 2.0, (10, 11)), (2.4, 3.0, (12,))]


def test_a_segment_keeps_the_timestamps_around_it() -> None:
    tokens = [stamp(0.5), 10, stamp(2.0), stamp(2.4), 12]
    first, second = split(tokens)
    assert first.tokens == (stamp(0.5), 10, stamp(2.0))
    assert second.tokens == (stamp(2.4), 12)


def test_one_timestamp_between_two_texts_ends_one_and_begins_the_other() -> None:
    assert spans(split([stamp(0), 10, stamp(2.0), 12])) == [(0, 2.0, (10,)), (2.0, 30, (12,))]


def test_text_without_an_end_goes_to_the_end_of_the_audio() -> None:
    assert spans(split([stamp(1.0), 10], duration_s=4.2)) == [(1.0, 4.2, (10,))]


def test_times_beyond_the_audio_are_clamped() -> None:
    assert spans(split([stamp(1.0), 10, stamp(9.0)], duration_s=5.0)) == [(1.0, 5.0, (10,))]


def test_text_that_begins_in_the_padding_is_dropped() -> None:
    """The encoder sees silence after the audio, on which Whisper likes to invent a farewell."""
    tokens = [stamp(1.0), 10, stamp(2.0), stamp(5.0), 12, stamp(6.0)]
    assert spans(split(tokens, duration_s=5.0)) == [(1.0, 2.0, (10,))]


def test_timestamps_alone_are_no_segment() -> None:
    assert split([stamp(0.0), stamp(1.0)]) == []
    assert split([]) == []


def test_probabilities_are_those_of_the_text() -> None:
    tokens, logprobs = [stamp(0), 10, 11, stamp(1)], [-9.0, math.log(0.5), math.log(0.25), -9.0]
    (segment,) = segments.split_segments(tokens, logprobs, GENERATION.tokens, 30.0)
    assert segment.probabilities == pytest.approx((0.5, 0.25))


@settings(max_examples=80, deadline=None)
@given(tokens=histories(), duration_s=st.floats(0.01, 30.0), seed=st.integers(0, 2**32 - 1))
def test_segments_and_words_stay_in_order_and_inside(
    tokens: list[int], duration_s: float, seed: int
) -> None:
    found = split(tokens, duration_s)
    count = sum(len(segment.text_tokens) for segment in found)
    times_s = np.sort(np.random.default_rng(seed).uniform(0, 31, count + 1))
    bound_s = 0.0
    for segment in segments.add_words(found, times_s, TOKENIZER, "en"):
        assert bound_s <= segment.start_s <= segment.end_s <= duration_s
        moments = [t for word in segment.words for t in (word.start_s, word.end_s)]
        assert moments == sorted(moments)
        assert segment.start_s <= moments[0] and moments[-1] <= segment.end_s
        assert "".join(w.text for w in segment.words) == TOKENIZER.decode(segment.text_tokens)
        bound_s = segment.end_s


def test_words_take_the_outer_times_of_their_segment_when_attention_is_near() -> None:
    (segment,) = split([stamp(1.0), *OPENAI.encode(" one two"), stamp(3.0)])
    (timed,) = segments.add_words([segment], np.array([1.3, 2.0, 2.9]), TOKENIZER, "en")
    assert [(w.start_s, w.end_s) for w in timed.words] == [(1.0, 2.0), (2.0, 3.0)]
    (timed,) = segments.add_words([segment], np.array([1.6, 2.0, 2.2]), TOKENIZER, "en")
    assert [(w.start_s, w.end_s) for w in timed.words] == [(1.6, 2.0), (2.0, 2.2)]


def test_words_without_a_time_of_their_own_share_their_neighbours() -> None:
    """Attention that jumps leaves several words in one instant, which no subtitle can show."""
    (segment,) = split([stamp(0.0), *OPENAI.encode(" one two six"), stamp(1.2)])
    (timed,) = segments.add_words([segment], np.array([0.0, 0.0, 0.0, 1.2]), TOKENIZER, "en")
    assert [w.end_s for w in timed.words] == pytest.approx([0.4, 0.8, 1.2])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (' Call 555-0199, at 7.30 p.m. "Now" (please)!', "en"),
        (" L'été dernier, j'ai payé 1 200 € — c'est trop.", "fr"),
        (" 你好，世界。今天是2024年。", "zh"),
        (' naïve 🤖 robots don\'t "dream"', "en"),
        ("", "en"),
    ],
)
def test_words_are_split_as_in_openai_whisper(text: str, language: str) -> None:
    tokens = OPENAI.encode(text)
    split_there = OPENAI.split_tokens_on_spaces
    if language == "zh":
        split_there = OPENAI.split_tokens_on_unicode
    words = TOKENIZER.split_words(tokens, language)
    assert "".join(word.text for word in words) == text
    assert [t for word in words for t in word.tokens] == tokens
    boundaries = np.cumsum([0, *(len(part) for part in split_there(tokens)[1])])
    own = np.cumsum([0, *(len(word.tokens) for word in words)])
    assert set(own) <= set(boundaries), "joined punctuation apart, the same words"


def test_punctuation_belongs_to_its_word() -> None:
    words = TOKENIZER.split_words(OPENAI.encode(' He said "no", twice (7).'), "en")
    assert [w.text for w in words] == [" He", " said", ' "no",', " twice", " (7)."]


def test_numbers_are_words() -> None:
    words = TOKENIZER.split_words(OPENAI.encode(" seven 7 1,024"), "en")
    assert [w.text for w in words][:2] == [" seven", " 7"]
    assert isinstance(words[0], tokenization.WordTokens)


def test_text_and_tokens_are_those_of_openai_whisper() -> None:
    text = " Grüße, 世界 — naïve 3.14 🤖"
    tokens = OPENAI.encode(text)
    assert TOKENIZER.encode_prompt(text) == tokens
    assert TOKENIZER.decode([BEGIN, *tokens, OPENAI.eot]) == text


def test_control_tokens_in_a_prompt_are_dropped() -> None:
    """A caller's text can't steer the decoder with tokens that only the decoder may write."""
    tokens = TOKENIZER.encode_prompt("a <|startoftranscript|><|en|> b")
    assert all(token < OPENAI.eot for token in tokens)
