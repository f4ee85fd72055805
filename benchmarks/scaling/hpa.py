"""Kubernetes' horizontal pod autoscaler: from a metric to a number of replicas.

After https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ and, where it is
silent, the controller (pkg/controller/podautoscaler/{horizontal,replica_calculator}.go, v1.31).
Every 15 s, for an external metric with a target `Value`:

    ratio   = metric / target
    desired = current                  where ratio is within 1 ± 0.1
            = ceil(ratio × ready pods) else

then stabilisation: within its window the smallest recommendation holds upwards, the largest
downwards; then policies: so many pods, or percent, within their period; then the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

SYNC_S: Final = 15.0
"""--horizontal-pod-autoscaler-sync-period."""

TOLERANCE: Final = 0.1
"""--horizontal-pod-autoscaler-tolerance."""


@dataclass(frozen=True)
class Policy:
    """At most so many pods, or percent of them, within so many seconds."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Rules:
    """One direction of `behavior`."""

    stabilisation_s: float
    policies: Sequence[Policy]
    select: Literal["Max", "Min", "Disabled"] = "Max"


DEFAULT_UP: Final = Rules(0.0, (Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)))
DEFAULT_DOWN: Final = Rules(300.0, (Policy("Percent", 100, 15.0),))


@dataclass(frozen=True)
class Scaling:
    """What an autoscaler is told."""

    target: float
    least: int
    most: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


def desired_replicas(current: int, ready: int, metric: float, target: float) -> int:
    """What the metric alone asks for."""
    ratio = metric / target
    if abs(ratio - 1.0) <= TOLERANCE:
        return current
    return math.ceil(ratio * ready)


@dataclass
class Autoscaler:
    """One autoscaler with its memory of what it recommended and did."""

    scaling: Scaling
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now_s: float, current: int, ready: int, metric: float) -> int:
        """The replicas that are wanted from now on."""
        if current > self.scaling.most:
            return self._changed(now_s, current, self.scaling.most)
        if current < self.scaling.least:
            return self._changed(now_s, current, self.scaling.least)
        asked = desired_replicas(current, ready, metric, self.scaling.target)
        stable = self._stabilised(now_s, current, asked)
        return self._changed(now_s, current, self._limited(now_s, current, stable))

    def _stabilised(self, now_s: float, current: int, asked: int) -> int:
        up_s, down_s = self.scaling.up.stabilisation_s, self.scaling.down.stabilisation_s
        upwards = [n for at_s, n in self._recommended if at_s > now_s - up_s]
        downwards = [n for at_s, n in self._recommended if at_s > now_s - down_s]
        self._recommended = [
            (at_s, n) for at_s, n in self._recommended if at_s > now_s - max(up_s, down_s)
        ]
        self._recommended.append((now_s, asked))
        at_least, at_most = min([asked, *upwards]), max([asked, *downwards])
        return min(max(current, at_least), at_most)

    def _limited(self, now_s: float, current: int, wanted: int) -> int:
        if wanted > current:
            limit = self._limit(now_s, current, self.scaling.up, _more, max)
            return min(wanted, max(limit, current), self.scaling.most)
        if wanted < current:
            limit = self._limit(now_s, current, self.scaling.down, _fewer, min)
            return max(wanted, min(limit, current), self.scaling.least)
        return current

    def _limit(
        self,
        now_s: float,
        current: int,
        rules: Rules,
        step: Callable[[int, Policy], int],
        furthest: Callable[[Sequence[int]], int],
    ) -> int:
        if rules.select == "Disabled":
            return current
        proposed = []
        for policy in rules.policies:
            since_s = now_s - policy.period_s
            changed = sum(change for at_s, change in self._changes if at_s > since_s)
            proposed.append(step(current - changed, policy))
        nearest = min if furthest is max else max
        return furthest(proposed) if rules.select == "Max" else nearest(proposed)

    def _changed(self, now_s: float, current: int, wanted: int) -> int:
        if wanted != current:
            rules = (*self.scaling.up.policies, *self.scaling.down.policies)
            longest_s = max((policy.period_s for policy in rules), default=0.0)
            self._changes = [c for c in self._changes if c[0] > now_s - longest_s]
            self._changes.append((now_s, wanted - current))
        return wanted


def _more(at_start: int, policy: Policy) -> int:
    if policy.kind == "Pods":
        return at_start + policy.value
    return math.ceil(at_start * (1 + policy.value / 100))


def _fewer(at_start: int, policy: Policy) -> int:
    if policy.kind == "Pods":
        return at_start - policy.value
    return int(at_start * (1 - policy.value / 100))
