"""Word times from cross-attention: which 20 ms of audio the model looked at while it wrote each
token.

The method is openai-whisper's (timing.py): scores of the alignment heads, normalised over tokens,
smoothed by a median filter, averaged, and followed by dynamic time warping (Sakoe & Chiba 1978),
whose path goes neither back in text nor back in time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from generation import TIMESTAMP_S

_MEDIAN_WIDTH = 7
_DIAGONAL, _UP, _LEFT = 0, 1, 2

Floats = NDArray[np.float32]


def token_times(scores: Floats, frames: int, first: int) -> NDArray[np.float64]:
    """When each text token begins, in seconds from the audio's start, never decreasing.

    scores: float32, (heads, tokens, 1500), before the softmax, of the sequence start …
    no-timestamps, text, end. frames: how many of the 1500 positions are audio. first: place of the
    no-timestamps token, which looks for the first text token. Returns one time per text token, and
    the end of the last one.
    """
    text = attention_map(scores[:, :, : max(1, frames)])[first:-1]
    tokens, path_frames = warp(-text)
    begins = np.flatnonzero(np.diff(tokens, prepend=-1))
    times: NDArray[np.float64] = path_frames[begins] * TIMESTAMP_S
    return times


def attention_map(scores: Floats) -> NDArray[np.float64]:
    """Scores (heads, tokens, frames) as one map (tokens, frames), normalised and smoothed."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    deviation = np.maximum(weights.std(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    weights = (weights - weights.mean(axis=1, keepdims=True)) / deviation
    mean: NDArray[np.float64] = median_filter(weights, _MEDIAN_WIDTH).mean(axis=0, dtype=np.float64)
    return mean


def median_filter(values: Floats, width: int) -> Floats:
    """Running median over the last axis, mirrored at its ends; too short a one stays."""
    half = width // 2
    if values.shape[-1] <= half:
        return values
    edges = [(0, 0)] * (values.ndim - 1) + [(half, half)]
    mirrored = np.pad(values, edges, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, width, axis=-1)
    median: Floats = np.partition(windows, half, axis=-1)[..., half]
    return median


def warp(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """The cheapest path through `cost`, (tokens, frames), from its first to its last cell.

    Returns (2, steps): token and frame of each step. Cells of one antidiagonal don't depend on each
    other, so the table is filled antidiagonal by antidiagonal.
    """
    tokens, frames = cost.shape
    skewed = np.full((tokens, tokens + frames - 1), np.inf)
    for token in range(tokens):
        skewed[token, token : token + frames] = cost[token]
    trace = np.empty((tokens + frames - 1, tokens), np.int8)
    before_last = np.full(tokens + 1, np.inf)
    before_last[0] = 0.0
    last = np.full(tokens + 1, np.inf)
    for diagonal in range(tokens + frames - 1):
        choices = np.stack([before_last[:-1], last[:-1], last[1:]])
        step = _cheapest(choices)
        trace[diagonal] = step
        current = np.full(tokens + 1, np.inf)
        current[1:] = skewed[:, diagonal] + np.take_along_axis(choices, step[None], axis=0)[0]
        before_last, last = last, current
    return _backtrack(trace, tokens, frames)


def _cheapest(choices: NDArray[np.float64]) -> NDArray[np.intp]:
    """Diagonal or up where that alone is cheapest, else left, as openai-whisper chooses."""
    diagonal, up, left = choices
    step = np.full(diagonal.shape, _LEFT, np.intp)
    step[(up < diagonal) & (up < left)] = _UP
    step[(diagonal < up) & (diagonal < left)] = _DIAGONAL
    return step


def _backtrack(trace: NDArray[np.int8], tokens: int, frames: int) -> NDArray[np.intp]:
    token, frame = tokens - 1, frames - 1
    path = [(token, frame)]
    while token > 0 or frame > 0:
        step = trace[token + frame, token]
        if frame == 0:
            step = _UP
        elif token == 0:
            step = _LEFT
        token -= int(step != _LEFT)
        frame -= int(step != _UP)
        path.append((token, frame))
    return np.array(path[::-1], np.intp).T
