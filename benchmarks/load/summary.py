"""Runs become figures: percentiles, throughput, medians over rounds."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.load.generator import Outcome

PERCENTILES: Final = (50, 95, 99)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one run.

    Throughput counts answered audio over the time from the first request to the last answer: the
    same work for everybody, its tail included. Latencies are those of the answered requests;
    whoever is turned away is in `errors`.
    """
    good = [o for o in outcomes if o.reply.error is None]
    wall_s = max(o.done_s for o in outcomes) - min(o.due_s for o in outcomes)
    audio_s = sum(o.audio_s for o in good)
    return {
        "requests": len(outcomes),
        "errors": dict(Counter(o.reply.error for o in outcomes if o.reply.error is not None)),
        "wall_s": round(wall_s, 3),
        "audio_s": round(audio_s, 3),
        "audio_s_per_s": round(audio_s / wall_s, 3),
        "requests_per_s": round(len(good) / wall_s, 3),
        "latency_s": latencies([o.latency_s for o in good]),
        "sent_late_s": round(max(o.sent_s - o.due_s for o in outcomes), 4),
        "tokens": sum(_tokens(o) for o in good),
        "from_cache": sum(bool(o.reply.body.get("cached")) for o in good),
        "stages_ms": _stages_ms(good),
    }


def latencies(values_s: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99, max and mean in seconds; None without any."""
    if not values_s:
        return None
    found = {f"p{p}": float(np.percentile(values_s, p)) for p in PERCENTILES}
    found |= {"max": max(values_s), "mean": statistics.fmean(values_s)}
    return {name: round(value, 4) for name, value in found.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most over rounds."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, round by round: what slows both in one round cancels out."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def _stages_ms(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Mean milliseconds by stage, from the answers' `timings_ms`; stages may overlap in time."""
    timings = [o.reply.body["timings_ms"] for o in outcomes if "timings_ms" in o.reply.body]
    names = dict.fromkeys(name for timing in timings for name in timing)
    return {
        name: round(statistics.fmean([timing.get(name, 0.0) for timing in timings]), 2)
        for name in names
    }


def _tokens(outcome: Outcome) -> int:
    """Tokens written: peers count them, the service's words are counted by its tokenizer's kin."""
    return int(outcome.reply.body.get("tokens", 0))
