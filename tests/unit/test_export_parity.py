"""The comparison that decides whether an export is published."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from export.errors import ParityError
from export.parity import TOLERANCES, Tolerance, check, compare, sample_audio
from export.types import SAMPLE_RATE_HZ

STRICT = TOLERANCES["fp32"]


def vectors(seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 10, 8).astype(np.float32) for _ in range(3)]


def test_difference_is_measured_on_the_scale_of_the_reference() -> None:
    expected = vectors()
    measured = [vector + np.float32(0.05) for vector in expected]

    parity = compare(expected, measured)

    assert parity.max_abs_difference == pytest.approx(0.05, rel=1e-3)
    assert parity.scale == pytest.approx(np.concatenate(expected).std(), rel=1e-6)
    assert parity.relative_difference == pytest.approx(0.05 / parity.scale, rel=1e-3)
    assert parity.clips == 3


def test_what_is_large_may_differ_in_proportion() -> None:
    """A thousandth of a number that is hundreds of times as large as others is rounding."""
    expected = vectors()
    expected[0][0] = 5_000.0
    measured = [vector.copy() for vector in expected]
    measured[0][0] *= 1.001

    parity = compare(expected, measured)

    assert parity.max_abs_difference == pytest.approx(5.0, rel=1e-3)
    assert parity.relative_difference == pytest.approx(0.001, rel=1e-3)


def test_equal_answers_pass() -> None:
    check(compare(vectors(), vectors()), STRICT)


def test_one_value_of_one_clip_that_is_off_fails() -> None:
    measured = vectors()
    measured[1][4] += 0.5

    with pytest.raises(ParityError, match="standard deviations"):
        check(compare(vectors(), measured), STRICT)


def test_a_turned_vector_fails_however_wide_the_difference_may_be() -> None:
    with pytest.raises(ParityError, match="cosine"):
        check(compare(vectors(), vectors(seed=1)), Tolerance(max_difference=1e9, min_cosine=0.9999))


def test_not_a_number_fails() -> None:
    """NaN compares as false with everything: `difference > bound` would let it through."""
    measured = vectors()
    measured[0][0] = np.nan

    with pytest.raises(ParityError):
        check(compare(vectors(), measured), STRICT)


def test_a_constant_reference_is_no_division_by_zero() -> None:
    constant = [np.ones(4, dtype=np.float32)]

    check(compare(constant, constant), STRICT)
    with pytest.raises(ParityError):
        check(compare(constant, [constant[0] + np.float32(0.1)]), STRICT)


def test_sample_clips_are_speech_of_several_lengths() -> None:
    clips = sample_audio()

    assert len({len(clip) for clip in clips}) == len(clips) >= 4
    for clip in clips:
        assert clip.dtype == np.float32
        assert 0.3 < len(clip) / SAMPLE_RATE_HZ < 4
        assert 0.05 < np.abs(clip).max() <= 1
