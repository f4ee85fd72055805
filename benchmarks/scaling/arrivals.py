"""Loads as lists of calls: when each came, and how much audio it brought.

A CSV with the columns `at_s` and `audio_s` (others are ignored), sorted by time. `of_service` reads
one from what a running service keeps, `made_up_day` draws one where nothing has been recorded yet.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
import numpy as np

from benchmarks.errors import ServiceAway, UsageError

DAY_S: Final = 86_400.0

_BY_HOUR: Final = tuple(
    map(int, "1 1 1 1 1 2 5 15 45 80 100 95 75 80 95 90 80 60 40 25 15 8 4 2".split())
)
"""Calls by hour of day, the busiest = 100: made up, after the two humps of a European call
centre's working day. Nobody's data: whoever has calls of their own takes `of_service`."""

_LENGTH_MEDIAN_S: Final = 150.0
_LENGTH_SIGMA: Final = 0.8
_LENGTH_MOST_S: Final = 1800.0
"""Log-normal lengths, as measured in call centres (Brown et al., "Statistical Analysis of a
Telephone Call Center", JASA 2005, find service times log-normal); median and spread are made up."""


@dataclass(frozen=True)
class Call:
    """One recording that comes in: seconds since the load's start, and its length."""

    at_s: float
    audio_s: float


def read(path: Path) -> list[Call]:
    """The calls of a CSV, sorted by time.

    Raises:
        UsageError: no such file, columns that are missing, or values that are no times.
    """
    try:
        with path.open(newline="") as file:
            calls = [
                Call(float(row["at_s"]), float(row["audio_s"])) for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} has no columns at_s and audio_s of numbers: {error}") from error
    if not calls or any(call.at_s < 0 or call.audio_s <= 0 for call in calls):
        raise UsageError(f"{path} holds no calls, or one before the start or without audio")
    return sorted(calls, key=lambda call: call.at_s)


def write(calls: Iterable[Call], path: Path) -> None:
    """The CSV that `read` takes."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["at_s", "audio_s"])
        rows.writerows([f"{call.at_s:.3f}", f"{call.audio_s:.3f}"] for call in calls)


def of_service(client: httpx.Client) -> list[Call]:
    """Every analysis that a service keeps, as the call it came from.

    `created_at` is when the analysis was made, seconds after its recording came: over a day it
    doesn't matter, over a minute it does.

    Raises:
        ServiceAway: it doesn't answer, or keeps nothing.
    """
    found: list[tuple[datetime, float]] = []
    cursor: str | None = None
    while True:
        query = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        try:
            response = client.get("/audio/analyses", params=query).raise_for_status()
        except httpx.HTTPError as error:
            raise ServiceAway(f"{client.base_url} doesn't list its analyses: {error}") from error
        page = response.json()
        found += [
            (datetime.fromisoformat(item["created_at"].replace("Z", "+00:00")), item["duration"])
            for item in page["items"]
        ]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    if not found:
        raise ServiceAway(f"{client.base_url} keeps no analyses")
    first = min(moment for moment, _ in found)
    calls = [Call((moment - first).total_seconds(), length) for moment, length in found]
    return sorted(calls, key=lambda call: call.at_s)


def made_up_day(hours: float, seed: int) -> list[Call]:
    """A working day of calls that together hold about so many hours of audio.

    Calls come independently of each other (a Poisson process whose rate follows the hour of day).
    """
    rng = np.random.default_rng(seed)
    mean_s = _LENGTH_MEDIAN_S * float(np.exp(_LENGTH_SIGMA**2 / 2))
    shares = np.asarray(_BY_HOUR) / sum(_BY_HOUR)
    counts = rng.poisson(hours * 3600 / mean_s * shares)
    times = np.concatenate([3600 * (hour + rng.random(count)) for hour, count in enumerate(counts)])
    lengths = rng.lognormal(np.log(_LENGTH_MEDIAN_S), _LENGTH_SIGMA, len(times))
    lengths = np.clip(lengths, 1.0, _LENGTH_MOST_S)
    return [Call(float(t), float(s)) for t, s in zip(np.sort(times), lengths, strict=True)]


def steps(
    profile: Sequence[tuple[float, float]], lengths_s: tuple[float, float], seed: int
) -> list[Call]:
    """Calls that come by chance at rates that change in steps: (seconds, calls a second), …"""
    rng = np.random.default_rng(seed)
    calls, start_s = [], 0.0
    for duration_s, rate_per_s in profile:
        count = int(rng.poisson(duration_s * rate_per_s))
        times = np.sort(start_s + duration_s * rng.random(count))
        calls += [Call(float(t), float(rng.uniform(*lengths_s))) for t in times]
        start_s += duration_s
    return calls
