"""Word times from attention: the warping against a plain implementation, and what always holds."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.whisper_runtime import alignment

HEADS, POSITIONS = 3, 1500


def plain_warp(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Dynamic time warping cell by cell, openai-whisper's choice among equals."""
    tokens, frames = cost.shape
    total = np.full((tokens + 1, frames + 1), np.inf)
    total[0, 0] = 0.0
    steps = np.zeros((tokens + 1, frames + 1), int)
    for i in range(1, tokens + 1):
        for j in range(1, frames + 1):
            diagonal, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            if diagonal < up and diagonal < left:
                best, steps[i, j] = diagonal, 0
            elif up < diagonal and up < left:
                best, steps[i, j] = up, 1
            else:
                best, steps[i, j] = left, 2
            total[i, j] = cost[i - 1, j - 1] + best
    steps[0, :], steps[:, 0] = 2, 1
    i, j = tokens, frames
    path = []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        i, j = i - (steps[i, j] != 2), j - (steps[i, j] != 1)
    return path[::-1]


@settings(max_examples=80, deadline=None)
@given(
    tokens=st.integers(1, 9),
    frames=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    coarse=st.booleans(),
)
def test_warping_finds_the_path_of_the_plain_implementation(
    tokens: int, frames: int, seed: int, coarse: bool
) -> None:
    """`coarse` costs are full of equals, where the order of the choices decides."""
    cost = np.random.default_rng(seed).standard_normal((tokens, frames))
    cost = np.round(cost) if coarse else cost
    assert [tuple(step) for step in alignment.warp(cost).T] == plain_warp(cost)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_median_filter_is_mirrored_at_the_ends(length: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((2, 3, length)).astype(np.float32)
    filtered = alignment.median_filter(values, 7)
    if length <= 3:
        np.testing.assert_array_equal(filtered, values)
    else:
        expected = scipy.ndimage.median_filter(values, size=(1, 1, 7), mode="mirror")
        np.testing.assert_array_equal(filtered, expected)


@settings(max_examples=30, deadline=None)
@given(words=st.integers(0, 12), frames=st.integers(0, POSITIONS), seed=st.integers(0, 2**32 - 1))
def test_times_never_decrease_and_lie_inside_the_audio(words: int, frames: int, seed: int) -> None:
    """One time per token and the last one's end, however short the audio is."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal((HEADS, words + 5, POSITIONS)).astype(np.float32)
    times = alignment.token_times(scores, frames, first=3)
    assert times.shape == (words + 1,)
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0 and times[-1] <= max(1, frames) * 0.02


def test_times_follow_the_attention() -> None:
    """Three tokens that look at 2 s, 5 s and 9 s begin where the look moves on."""
    scores = np.random.default_rng(0).standard_normal((HEADS, 3 + 5, POSITIONS)).astype(np.float32)
    for row, (begin, end) in enumerate([(100, 250), (250, 450), (450, 500)], start=3):
        scores[:, row, begin:end] += 12.0
    times = alignment.token_times(scores, 600, first=3)
    np.testing.assert_allclose(times[1:3], [5.0, 9.0], atol=0.1)


def test_equal_attention_gives_times_and_no_nan() -> None:
    """Heads that don't tell tokens apart have no deviation to divide by."""
    times = alignment.token_times(np.zeros((HEADS, 7, POSITIONS), np.float32), 100, first=3)
    assert np.isfinite(times).all()
