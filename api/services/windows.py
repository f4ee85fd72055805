"""Fixed windows over speech: what the emotion and speaker models listen to.

A fixed length keeps both models honest (group norm and relative lengths make padded answers differ)
and lets Triton's dynamic batcher merge the windows of every request in flight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from api.types import SAMPLE_RATE_HZ, Region, Waveform

MERGE_GAP_S = 0.3
"""Pauses shorter than this don't end a window: they are within a speaker's breath."""

_SAME_MOMENT = 1e-6
"""A region that is longer than whole hops by rounding alone needs no window more."""


@dataclass(frozen=True)
class Window:
    """A stretch of the recording, as a model hears it: repeated until it fills `num_samples`."""

    start_s: float
    end_s: float
    num_samples: int
    _recording: Waveform = field(repr=False, compare=False)

    @property
    def samples(self) -> NDArray[np.float32]:
        """float32, shape (num_samples,); read anew at each call."""
        return fill(self._recording.cut(self.start_s, self.end_s), self.num_samples)

    @property
    def centre_s(self) -> float:
        return (self.start_s + self.end_s) / 2


def cover(
    waveform: Waveform, regions: Sequence[Region], *, window_s: float, hop_s: float
) -> list[Window]:
    """Windows of exactly `window_s` over every region, in order.

    Regions closer than `MERGE_GAP_S` are taken as one. The first window of a region begins with it,
    the last one ends with it, and their starts lie evenly, at most `hop_s` apart; a region shorter
    than a window is repeated until it fills one, which keeps its statistics.
    """
    num_samples = round(window_s * SAMPLE_RATE_HZ)
    return [
        Window(start, min(start + window_s, region.end), num_samples, waveform)
        for region in merge(regions, MERGE_GAP_S)
        for start in _starts(region, window_s, hop_s)
    ]


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
    return samples if len(samples) == num_samples else np.resize(samples, num_samples)


def _starts(region: Region, window_s: float, hop_s: float) -> list[float]:
    """Evenly spread, so that no two windows hear nearly the same."""
    room_s = region.duration_s - window_s
    if room_s <= _SAME_MOMENT * hop_s:
        return [region.start]
    steps = math.ceil(room_s / hop_s - _SAME_MOMENT)
    return [region.start + room_s * step / steps for step in range(steps + 1)]
