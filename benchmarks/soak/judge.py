"""From the ledger to the verdict: everything that must not be, each as one fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.soak.answers import differences
from benchmarks.soak.callers import Callers, GaveUp
from benchmarks.soak.growth import Growth
from benchmarks.soak.ledger import Accepted, Fault, Ledger


async def check_store(callers: Callers, ledger: Ledger) -> int:
    """Compares everything that was answered with what is stored; returns how many were."""
    checked = 0
    for taken in ledger.accepted:
        if taken.answer is None:
            continue
        try:
            kept = await callers.stored(taken.answer["id"])
        except GaveUp:
            continue  # is a fault already
        checked += 1
        what = f"{taken.route} of {taken.recording}, {taken.answer['id']}"
        if kept is None:
            ledger.fault("lost", f"{what}: answered, and not in the store")
        elif changed := differences(taken.answer, kept):
            ledger.fault("changed", f"{what}: " + "; ".join(changed[:5]))
    return checked


def faults(ledger: Ledger, growths: Sequence[Growth], left: Sequence[str]) -> list[Fault]:
    """What the ledger noted, and what only shows when all is over.

    Args:
        left: what of the service is still there after its end.
    """
    found = list(ledger.faults)
    for taken in ledger.accepted:
        if taken.route == "job" and taken.end != "succeeded":
            said = f"job {taken.id} of {taken.recording} was accepted and ended as {taken.end}"
            found.append(Fault("lost", taken.at_s, said))
    for trouble in ledger.troubles:
        if ledger.excuse(trouble) is None:
            said = f"{trouble.kind} while nothing was killed that explains it: {trouble.said}"
            found.append(Fault("unexplained", round(trouble.ended_s, 1), said))
    for growth in growths:
        if growth.is_judged and not growth.is_flat:
            said = (
                f"{growth.what}: {growth.per_hour:+.1f} {growth.unit} an hour, "
                f"at most {growth.limit_per_hour:.1f}"
            )
            found.append(Fault("growth", ledger.now_s(), said))
    found += [Fault("left over", ledger.now_s(), what) for what in left]
    return found


def counts(ledger: Ledger) -> dict[str, Any]:
    """By way: accepted, answered, and how long it took; then what was asked again, and why."""
    routes: dict[str, Any] = {}
    for route in ("analysis", "stream", "job"):
        taken = [one for one in ledger.accepted if one.route == route]
        routes[route] = {"accepted": len(taken), "answered": _answered(taken), **_waits(taken)}
    excused = Counter(t.kind for t in ledger.troubles if ledger.excuse(t) is not None)
    return {
        "routes": routes,
        "asked_again": dict(Counter(trouble.kind for trouble in ledger.troubles)),
        "asked_again_explained": dict(excused),
        "streams_resumed": ledger.resumed,
        "kills": dict(Counter(outage.kind for outage in ledger.outages)),
        "rollouts": dict(Counter(f"{r['strategy']} {r['status']}" for r in ledger.rollouts)),
        "by_emotion_version": dict(
            Counter(
                taken.answer["models"]["emotion"]["version"]
                for taken in ledger.accepted
                if taken.answer is not None
            )
        ),
    }


def _answered(taken: Sequence[Accepted]) -> int:
    return sum(one.answer is not None for one in taken)


def _waits(taken: Sequence[Accepted]) -> dict[str, float]:
    waits = [one.latency_s for one in taken if one.latency_s is not None]
    if not waits:
        return {}
    p50, p95, most = np.percentile(waits, [50, 95, 100])
    return {"p50_s": round(p50, 2), "p95_s": round(p95, 2), "max_s": round(most, 2)}
