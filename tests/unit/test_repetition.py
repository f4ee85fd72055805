"""Loops are found, and what people say isn't taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from api.repetition import repetition


@pytest.mark.parametrize(
    "text, share",
    [
        ("", 0.0),
        ("one", 0.0),
        ("no no no", 0.0),
        ("one two one two one two", 0.0),
        ("Thank you. " * 4, 1.0),
        ("so it was. " + "you " * 9, 9 / 12),
        ("I think, I think that I think so", 0.0),
        ("a b c d e " * 2, 0.0),
        ("a b c d e " * 3, 1.0),
        ("well a b c d e, A B C D E. a b c d e and that was it", 15 / 20),
    ],
)
def test_a_loop_is_a_phrase_said_three_times_in_a_row(text: str, share: float) -> None:
    assert repetition(text.split()) == pytest.approx(share)


def test_random_digits_are_no_loop() -> None:
    digits = np.random.default_rng(0).integers(0, 10, 100_000)
    assert repetition([str(d) for d in digits]) < 1e-3
