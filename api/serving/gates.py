"""What a version on trial has to keep to, and whether it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import floor
from typing import Literal

KEPT = 400
"""Latencies and agreements of a window that are kept: the latest ones."""

MIN_LATENCIES = 20
"""On each side, before their 95th percentiles are compared."""

MIN_COMPARISONS = 10
"""Before the mean agreement is judged."""

LATENCY_SLACK_S = 0.05
"""Added to what the ratio allows: small models answer in milliseconds, and jitter is no breach."""

Gate = Literal["error_rate", "latency", "agreement"]


@dataclass(frozen=True)
class Gates:
    """Bounds of a trial; None switches one off.

    Attributes:
        min_requests: answered by the version on trial, in each step, before it may go on.
        error_rate: largest share of its requests that may fail.
        p95_ratio: how many times the stable version's 95th percentile its own may be.
        agreement: smallest mean agreement with the stable version, 0 to 1.
        golden: whether it has to stand the golden recordings before it gets traffic.
    """

    min_requests: int = 50
    error_rate: float = 0.02
    p95_ratio: float | None = 2.0
    agreement: float | None = 0.5
    golden: bool = True


@dataclass(frozen=True)
class Side:
    """One version's part in a window: answers, failures and the latest one's cause, the latest
    calls' seconds."""

    answered: int = 0
    failed: int = 0
    error: str | None = None
    seconds: tuple[float, ...] = ()

    @property
    def requests(self) -> int:
        return self.answered + self.failed

    @property
    def p95_s(self) -> float | None:
        ordered = sorted(self.seconds)
        return ordered[floor(0.95 * (len(ordered) - 1))] if ordered else None


@dataclass(frozen=True)
class Window:
    """What happened since a step of a rollout began."""

    stable: Side = field(default_factory=Side)
    candidate: Side = field(default_factory=Side)
    agreements: tuple[float, ...] = ()
    compared: int = 0
    dropped: int = 0

    @property
    def agreement(self) -> float | None:
        return sum(self.agreements) / len(self.agreements) if self.agreements else None


@dataclass(frozen=True)
class Breach:
    """The gate that a version broke, and how."""

    gate: Gate
    reason: str


def answered(side: Side) -> Side:
    return replace(side, answered=side.answered + 1)


def failed(side: Side, error: str) -> Side:
    return replace(side, failed=side.failed + 1, error=error)


def timed(side: Side, seconds: float) -> Side:
    return replace(side, seconds=(*side.seconds, seconds)[-KEPT:])


def compared(window: Window, agreement: float) -> Window:
    return replace(
        window,
        agreements=(*window.agreements, agreement)[-KEPT:],
        compared=window.compared + 1,
    )


def merged(windows: Iterable[Window]) -> Window:
    """The windows of several workers as one."""
    total = Window()
    for window in windows:
        total = Window(
            _together(total.stable, window.stable),
            _together(total.candidate, window.candidate),
            total.agreements + window.agreements,
            total.compared + window.compared,
            total.dropped + window.dropped,
        )
    return total


def judge(window: Window, gates: Gates) -> Breach | None:
    """The first gate that is broken.

    Errors are judged from the first on: as soon as there are more of them than `min_requests` may
    hold. So a version that always fails is found out after `floor(error_rate * min_requests) + 1`
    requests. The other gates need enough to compare.
    """
    return _errors(window, gates) or _latency(window, gates) or _agreement(window, gates)


def _errors(window: Window, gates: Gates) -> Breach | None:
    side = window.candidate
    allowed = floor(gates.error_rate * max(side.requests, gates.min_requests))
    if side.failed <= allowed:
        return None
    return Breach(
        "error_rate",
        f"{side.failed} of {side.requests} requests failed; {allowed} may "
        f"(error_rate {gates.error_rate:g}); the latest: {side.error}",
    )


def _latency(window: Window, gates: Gates) -> Breach | None:
    sides = (window.stable, window.candidate)
    if gates.p95_ratio is None or any(len(side.seconds) < MIN_LATENCIES for side in sides):
        return None
    stable_s, candidate_s = (side.p95_s or 0.0 for side in sides)
    limit_s = gates.p95_ratio * stable_s + LATENCY_SLACK_S
    if candidate_s <= limit_s:
        return None
    return Breach(
        "latency",
        f"95% of its calls took up to {candidate_s:.3f} s, the stable version's {stable_s:.3f} s; "
        f"{limit_s:.3f} s are allowed (p95_ratio {gates.p95_ratio:g})",
    )


def _agreement(window: Window, gates: Gates) -> Breach | None:
    if gates.agreement is None or len(window.agreements) < MIN_COMPARISONS:
        return None
    mean = window.agreement or 0.0
    if mean >= gates.agreement:
        return None
    return Breach(
        "agreement",
        f"it agrees with the stable version to {mean:.3f} over {window.compared} comparisons; "
        f"{gates.agreement:g} is asked",
    )


def _together(one: Side, other: Side) -> Side:
    return Side(
        one.answered + other.answered,
        one.failed + other.failed,
        other.error or one.error,
        one.seconds + other.seconds,
    )
