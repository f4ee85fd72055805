"""Fixed windows over speech: what the emotion and speaker models listen to.

A fixed length keeps both models honest (group norm and relative lengths make padded answers differ)
and lets Triton's dynamic batcher merge the windows of every request in flight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.types import SAMPLE_RATE_HZ, Region, Waveform

MERGE_GAP_S = 0.3
"""Pauses shorter than this don't end a window: they are within a speaker's breath."""


@dataclass(frozen=True)
class Window:
    """`samples`: float32, shape (window_samples,); the stretch of the recording it stands for."""

    start_s: float
    end_s: float
    samples: NDArray[np.float32]


def cover(
    waveform: Waveform, regions: Sequence[Region], *, window_s: float, hop_s: float
) -> list[Window]:
    """Windows of exactly `window_s` over every region, in order.

    Regions closer than `MERGE_GAP_S` are taken as one. The last window of a region ends with it;
    a region shorter than a window is repeated until it fills one, which keeps its statistics.
    """
    windows = []
    for region in merge(regions, MERGE_GAP_S):
        for start in _starts(region, window_s, hop_s):
            end = min(start + window_s, region.end)
            samples = fill(waveform.cut(start, end), round(window_s * SAMPLE_RATE_HZ))
            windows.append(Window(start, end, samples))
    return windows


def merge(regions: Sequence[Region], gap_s: float) -> list[Region]:
    """Join regions that are less than `gap_s` apart."""
    merged: list[Region] = []
    for region in regions:
        if merged and region.start - merged[-1].end < gap_s:
            merged[-1] = Region(merged[-1].start, max(merged[-1].end, region.end))
        else:
            merged.append(region)
    return merged


def fill(samples: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    """Cut or repeat a stretch of audio to `num_samples`; silence stays silence."""
    if len(samples) == 0:
        return np.zeros(num_samples, dtype=np.float32)
    return np.resize(samples, num_samples)


def _starts(region: Region, window_s: float, hop_s: float) -> list[float]:
    last = region.end - window_s
    if last <= region.start:
        return [region.start]
    starts = list(np.arange(region.start, last, hop_s, dtype=float))
    return [*map(float, starts), last]
