"""The token rules against openai-whisper's own, on any logits and any history."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from whisper.decoding import ApplyTimestampRules, SuppressBlank, SuppressTokens

from tests.whisper_runtime import rules
from tests.whisper_vocabulary import BEGIN, GENERATION, OPENAI, SUPPRESSED, VOCAB, histories


@settings(max_examples=60, deadline=None)
@given(history=histories(), seed=st.integers(0, 2**32 - 1), lift=st.floats(-5, 5))
def test_same_tokens_are_allowed_as_in_openai_whisper(
    history: list[int], seed: int, lift: float
) -> None:
    logits = np.random.default_rng(seed).standard_normal((1, VOCAB)).astype(np.float32)
    logits[:, BEGIN:] += lift
    expected = _openai(logits, history)
    rules.TokenRules(GENERATION).apply(logits, [(history, True)])
    np.testing.assert_array_equal(np.isfinite(logits), np.isfinite(expected))
    np.testing.assert_array_equal(logits[np.isfinite(logits)], expected[np.isfinite(expected)])


def test_rows_follow_their_own_history() -> None:
    logits = np.zeros((2, VOCAB), np.float32)
    rules.TokenRules(GENERATION).apply(logits, [([], True), ([BEGIN + 10, 100], True)])
    assert not np.isfinite(logits[0, :BEGIN]).any(), "a transcript begins with a timestamp"
    assert not np.isfinite(logits[1, BEGIN : BEGIN + 11]).any(), "time doesn't go back"
    assert np.isfinite(logits[1, BEGIN + 11 :]).all()


def test_a_text_without_timestamps_begins_with_a_word() -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    rules.TokenRules(GENERATION).apply(logits, [([], False)])
    blank, end = OPENAI.encode(" ")[0], OPENAI.eot
    assert np.isfinite(logits[0, 100]) and not np.isfinite(logits[0, [blank, end]]).any()


def test_log_normaliser_is_the_log_of_the_sum_of_exponentials() -> None:
    logits = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    logits[1, 5:] = -np.inf
    expected = torch.from_numpy(logits).logsumexp(dim=1).numpy()
    np.testing.assert_allclose(rules.log_normaliser(logits), expected, rtol=1e-6)


def test_log_normaliser_of_nothing_is_minus_infinity() -> None:
    """A row in which every token is forbidden must end its text, not spread NaN."""
    assert rules.log_normaliser(np.full((1, 4), -np.inf, np.float32)) == -np.inf


@pytest.mark.parametrize("history", [[], [BEGIN], [BEGIN, 50, BEGIN + 1499]])
def test_something_is_always_allowed(history: list[int]) -> None:
    logits = np.zeros((1, VOCAB), np.float32)
    rules.TokenRules(GENERATION).apply(logits, [(history, True)])
    assert np.isfinite(logits).any()


def _openai(logits: NDArray[np.float32], history: list[int]) -> NDArray[np.float32]:
    """openai-whisper's three filters in their order."""
    prompt = list(OPENAI.sot_sequence)
    tokens = torch.tensor([prompt + history])
    filtered = torch.from_numpy(logits.copy())
    SuppressBlank(OPENAI, len(prompt)).apply(filtered, tokens)
    SuppressTokens(list(SUPPRESSED)).apply(filtered, tokens)
    ApplyTimestampRules(OPENAI, len(prompt), 50).apply(filtered, tokens)
    answer: NDArray[np.float32] = filtered.numpy()
    return answer
