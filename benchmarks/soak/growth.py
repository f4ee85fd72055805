"""Does anything grow? Slopes per hour of memory, file descriptors and shared memory.

Two views, since a killed process takes its leak with it: what a role's processes hold together over
the whole run, by the median of the slopes between all pairs of samples (Theil 1950, Sen 1968),
which a rollout's second process or a restart doesn't bend; and how processes grow while they live,
one least-squares slope for all lives of a role with a level of its own for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.soak.ledger import GRACE_S, Outage
from benchmarks.soak.meter import Sample, Usage

JUDGED_FROM_S: Final = 1200.0
"""Shorter stretches say nothing about an hour."""

SETTLED_S: Final = 600.0
"""What a process takes at first is its warm-up: pools of memory fill over hundreds of requests."""

MIB: Final = 2**20
LEAST_BYTES: Final = 16 * MIB
LEAST_DESCRIPTORS: Final = 10.0
LEAST_REGIONS: Final = 3.0
SHARE: Final = 0.10
"""A slope is flat below a tenth of the level per hour, or below the least of its kind."""


@dataclass(frozen=True)
class Growth:
    """One figure's slope; `is_judged` is False where too little was seen."""

    what: str
    unit: str
    level: float
    per_hour: float
    limit_per_hour: float
    observed_s: float

    @property
    def is_judged(self) -> bool:
        return self.observed_s >= JUDGED_FROM_S

    @property
    def is_flat(self) -> bool:
        return self.per_hour <= self.limit_per_hour


def growths(samples: Sequence[Sample], outages: Sequence[Outage], warm_s: float) -> list[Growth]:
    """Every figure's growth, outages and the run's first `warm_s` left out."""
    calm = [s for s in samples if s.at_s >= warm_s and not _during(s.at_s, outages)]
    found = [
        _whole("shared memory", calm, lambda s: s.region_bytes / MIB, LEAST_BYTES / MIB, "MiB"),
        _whole("regions of shared memory", calm, lambda s: s.regions, LEAST_REGIONS, ""),
    ]
    roles = sorted({usage.role for sample in calm for usage in sample.processes})
    for role in roles:
        for unit, least, figure in (
            ("MiB", LEAST_BYTES / MIB, lambda usage: usage.own_bytes / MIB),
            ("descriptors", LEAST_DESCRIPTORS, lambda usage: float(usage.descriptors)),
        ):
            found.append(_whole(f"{role}, all", calm, _total(role, figure), least, unit))
            found.append(_lives(f"{role}, each while it lives", samples, role, figure, least, unit))
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Median slope between all pairs, 0 where there are none."""
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] > x[first]
    if not apart.any():
        return 0.0
    rises = (y[second] - y[first])[apart] / (x[second] - x[first])[apart]
    return float(np.median(rises))


def slope_within(groups: Sequence[NDArray[np.float64]]) -> float:
    """One least-squares slope for groups of points (n, 2), each with a level of its own."""
    up = along = 0.0
    for points in groups:
        x, y = (points - points.mean(axis=0)).T
        up, along = up + float(x @ y), along + float(x @ x)
    return up / along if along else 0.0


def _total(role: str, figure: Callable[[Usage], float]) -> Callable[[Sample], float]:
    return lambda sample: sum(figure(usage) for usage in sample.processes if usage.role == role)


def _whole(
    what: str, samples: Sequence[Sample], figure: Callable[[Sample], float], least: float, unit: str
) -> Growth:
    points = [(sample.at_s, figure(sample)) for sample in samples]
    level = float(np.median([y for _, y in points])) if points else 0.0
    observed_s = points[-1][0] - points[0][0] if points else 0.0
    limit = max(least, SHARE * level)
    return Growth(what, unit, level, 3600 * slope(points), limit, observed_s)


def _lives(
    what: str,
    samples: Sequence[Sample],
    role: str,
    figure: Callable[[Usage], float],
    least: float,
    unit: str,
) -> Growth:
    lives: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        for usage in sample.processes:
            if usage.role == role:
                lives[usage.pid].append((sample.at_s, figure(usage)))
    settled = []
    for life in lives.values():
        kept = [point for point in life if point[0] >= life[0][0] + SETTLED_S]
        if len(kept) > 1:
            settled.append(np.array(kept))
    level = float(np.median(np.concatenate(settled)[:, 1])) if settled else 0.0
    observed_s = float(sum(points[-1, 0] - points[0, 0] for points in settled))
    limit = max(least, SHARE * level)
    return Growth(what, unit, level, 3600 * slope_within(settled), limit, observed_s)


def _during(at_s: float, outages: Sequence[Outage]) -> bool:
    return any(
        o.began_s <= at_s <= (float("inf") if o.over_s is None else o.over_s + GRACE_S)
        for o in outages
    )
