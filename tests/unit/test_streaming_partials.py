"""Partial transcripts: what is stable stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.streaming.partials import LocalAgreement, Partial
from api.types import Word


def words(text: str, start_s: float = 0.0, each_s: float = 0.5) -> list[Word]:
    return [
        Word(f" {word}", start_s + n * each_s, start_s + (n + 1) * each_s, 0.9)
        for n, word in enumerate(text.split())
    ]


def heard(*hypotheses: str, until_s: float = 100.0) -> list[Partial]:
    agreement = LocalAgreement()
    return [agreement.update(words(text), until_s) for text in hypotheses]


def test_words_are_stable_once_two_hypotheses_agree() -> None:
    first, second, third = heard("one two free", "one two three four", "one two three for five")
    assert (first.text, first.stable) == ("one two free", "")
    assert (second.text, second.stable) == ("one two three four", "one two")
    assert (third.text, third.stable) == ("one two three for five", "one two three")


def test_a_stable_word_is_not_taken_back() -> None:
    *_, last = heard("one two", "one two", "nine nine five")
    assert last.stable == "one two"
    assert last.text == "one two five"


def test_case_and_punctuation_dont_count() -> None:
    *_, last = heard("Hello, world", "hello world. Again")
    assert last.stable == "hello world."


def test_a_word_at_the_end_of_the_audio_may_go_on() -> None:
    agreement = LocalAgreement()
    agreement.update(words("one four"), 1.0)
    assert agreement.update(words("one four"), 1.1).stable == "one"


def test_an_empty_hypothesis_takes_nothing_back() -> None:
    *_, last = heard("one two", "one two", "")
    assert last.text == last.stable == "one two"


_hypotheses = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["one", "two", "Two,", "three"]), st.floats(0.05, 1.0)),
        max_size=8,
    ),
    max_size=8,
)


@given(_hypotheses, st.floats(0, 8))
def test_the_stable_prefix_only_grows(
    hypotheses: list[list[tuple[str, float]]], until_s: float
) -> None:
    agreement = LocalAgreement()
    stable = ""
    for hypothesis in hypotheses:
        at, spoken = 0.0, []
        for word, length_s in hypothesis:
            spoken.append(Word(f" {word}", at, at + length_s, 0.5))
            at += length_s
        partial = agreement.update(spoken, until_s)
        assert partial.stable.startswith(stable)
        assert partial.text.startswith(partial.stable)
        stable = partial.stable
