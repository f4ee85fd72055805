"""How sure a figure is: confidence intervals by resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

RESAMPLES: Final = 1000
"""Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
(ICASSP 2004), find the interval's ends stable from about this many on."""

LEVEL: Final = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; a single item says nothing of spread: `low`, `high` are None."""

    value: float
    low: float | None
    high: float | None
    count: int


def estimate(
    items: Sequence[T], statistic: Callable[[Sequence[T]], float], seed: int = 0
) -> Estimate | None:
    """The statistic over all items, and its percentile bootstrap interval at 95%.

    Items are the independent units, here recordings: words of one recording fail together, so
    resampling words would promise too much.

    Args:
        statistic: of any resample; NaN where it isn't defined.

    Returns:
        None when there are no items or the statistic isn't defined on them.
    """
    value = statistic(items) if items else math.nan
    if math.isnan(value):
        return None
    if len(items) == 1:
        return Estimate(value, None, None, 1)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(items), size=(RESAMPLES, len(items)))
    values = np.array([statistic([items[i] for i in draw]) for draw in draws])
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), len(items))
