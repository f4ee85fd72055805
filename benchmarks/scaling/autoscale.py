"""Simulates the autoscaler of deploy/kubernetes on a load, with measured times of batches.

  python -m benchmarks autoscale --check             # how far the simulation is from the recording
  python -m benchmarks autoscale --load calls.csv    # columns at_s, audio_s
  python -m benchmarks autoscale --day 200 --targets 0.5 1 2 --out autoscaler

A load can be read from a service that runs (--of-service URL: what it keeps), recorded
(`python -m benchmarks record`), or made up (--day HOURS of audio over a working day).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from matplotlib.figure import Figure

from benchmarks.errors import UsageError
from benchmarks.load.clips import ROOT
from benchmarks.scaling import arrivals, manifests
from benchmarks.scaling.batching import BatchCost
from benchmarks.scaling.hpa import Scaling
from benchmarks.scaling.simulation import Outcome, Simulation

RECORDED: Final = Path(__file__).with_name("recorded.json")
CONFIG: Final = ROOT / "deploy/kubernetes/components/keda/triton.yaml"
_PERCENTILES: Final = (50, 95, 99)
START_S: Final = 30.0
NOTICE_S: Final = 60.0
"""Half of what --grpc-max-connection-age allows: when a connection ends, the API's channel asks
again who is there."""


@dataclass(frozen=True)
class Recording:
    """What `record` wrote: batches with their times, counters, and calls with their latencies."""

    batches: Sequence[dict[str, float]]
    counters: Sequence[dict[str, float]]
    calls: Sequence[arrivals.Call]
    whisper_s: np.ndarray[tuple[int], np.dtype[np.float64]]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises: UsageError: the files aren't what `record` writes."""
        try:
            report: dict[str, Any] = json.loads(path.read_text())
            with path.with_suffix(".csv").open(newline="") as file:
                whisper_s = [float(row["whisper_s"]) for row in csv.DictReader(file)]
            calls = arrivals.read(path.with_suffix(".csv"))
            return cls(report["batches"], report["counters"], calls, np.asarray(whisper_s))
        except (OSError, KeyError, ValueError) as error:
            raise UsageError(f"{path} isn't what `record` writes: {error!r}") from error

    @property
    def cost(self) -> BatchCost:
        return BatchCost.fitted(
            (round(b["size"]), b["longest_s"], b["compute_s"]) for b in self.batches
        )


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    loads = command.add_mutually_exclusive_group(required=True)
    loads.add_argument("--load", type=Path, metavar="CSV", help="columns at_s and audio_s")
    loads.add_argument("--of-service", metavar="URL", help="the analyses that a service keeps")
    loads.add_argument("--day", type=float, metavar="HOURS", help="a made-up day of so much audio")
    loads.add_argument(
        "--check", action="store_true", help="one replica against the recording, and how far off"
    )
    add("--api-key", metavar="KEY", help="with --of-service")
    add("--recorded", type=Path, default=RECORDED, metavar="JSON", help="measured batches")
    add("--config", type=Path, default=CONFIG, metavar="YAML", help="a ScaledObject or an HPA")
    add("--targets", nargs="+", type=float, metavar="RATIO", help="instead of the config's")
    add("--start-s", type=float, default=START_S, help=f"until a pod is ready ({START_S:g})")
    add("--notice-s", type=float, default=NOTICE_S, help=f"until it is asked ({NOTICE_S:g})")
    add("--seed", type=int, default=7, help="of --day")
    add("--out", type=Path, metavar="NAME", help="NAME.png, and the load as NAME.csv")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: a file that can't be used.
        ServiceAway: --of-service doesn't answer.
    """
    recording = Recording.read(parsed.recorded)
    if parsed.check:
        print(check(recording))
        return 0
    calls = _load(parsed)
    given = manifests.read(parsed.config)
    targets = parsed.targets or [given.target]
    outcomes = {
        target: Simulation(
            calls,
            recording.cost,
            replace(given, target=target),
            start_s=parsed.start_s,
            notice_s=parsed.notice_s,
        ).run()
        for target in targets
    }
    print(table(calls, outcomes))
    if parsed.out is not None:
        arrivals.write(calls, parsed.out.with_suffix(".csv"))
        draw(calls, outcomes).savefig(parsed.out.with_suffix(".png"), dpi=120)
    return 0


def _load(parsed: argparse.Namespace) -> list[arrivals.Call]:
    if parsed.load is not None:
        return arrivals.read(parsed.load)
    if parsed.day is not None:
        return arrivals.made_up_day(parsed.day, parsed.seed)
    headers = {"X-API-Key": parsed.api_key} if parsed.api_key else {}
    with httpx.Client(base_url=parsed.of_service, headers=headers, timeout=60) as client:
        return arrivals.of_service(client)


def table(calls: Sequence[arrivals.Call], outcomes: dict[float, Outcome]) -> str:
    """Markdown: a row for each target."""
    hours = sum(call.audio_s for call in calls) / 3600
    lines = [
        f"{len(calls)} calls, {hours:.1f} hours of audio",
        "",
        "| target | most replicas | changes | pod-hours | queue ÷ compute | mean batch "
        "| p50 s | p95 s | p99 s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for target, o in outcomes.items():
        p50, p95, p99 = np.percentile(o.latency_s, [50, 95, 99])
        lines.append(
            f"| {target:g} | {o.most_replicas} | {o.changes} | {o.pod_s / 3600:.1f} "
            f"| {o.queue_s / o.compute_s:.2f} | {o.mean_batch:.1f} "
            f"| {p50:.1f} | {p95:.1f} | {p99:.1f} |"
        )
    return "\n".join(lines)


def check(recording: Recording) -> str:
    """One replica, no autoscaler, against what Triton's counters and the answers said.

    The second guess shows how much hangs on the batches' times: near the limit a tenth of them is
    half of the wait.
    """
    first, last = recording.counters[0], recording.counters[-1]
    grown = {name: last[name] - first[name] for name in first}
    measured = [
        grown["queue_us"] / grown["compute_us"],
        grown["queue_us"] / grown["requests"] / 1e6,
        grown["compute_us"] / grown["requests"] / 1e6,
        grown["requests"] / grown["executions"],
        *np.percentile(recording.whisper_s, _PERCENTILES),
    ]
    names = ["queue ÷ compute", "queue, s a request", "compute, s a request", "mean batch"]
    names += [f"Whisper's stage, p{p}, s" for p in _PERCENTILES]
    cost = recording.cost
    guesses = [_alone(recording.calls, cost), _alone(recording.calls, cost.stretched(1.1))]
    fitted = [
        abs(cost.seconds(round(b["size"]), b["longest_s"]) / b["compute_s"] - 1)
        for b in recording.batches
    ]
    lines = [
        f"A batch takes {cost.start_s:.3f} s + {cost.by_request_s:.3f} s a request "
        f"+ {cost.by_audio_s:.4f} s a request and second of the longest "
        f"(off by {np.mean(fitted):.0%} on average, {max(fitted):.0%} at most).",
        "",
        "| | measured | simulated | off by | with batches 10% longer | off by |",
        "|---|---|---|---|---|---|",
    ]
    for name, true, *guessed in zip(names, measured, *guesses, strict=True):
        cells = [f"{guess:.2f} | {guess / true - 1:+.0%}" for guess in guessed]
        lines.append(f"| {name} | {true:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _alone(calls: Sequence[arrivals.Call], cost: BatchCost) -> list[float]:
    outcome = Simulation(calls, cost, Scaling(1.0, 1, 1), start_s=0, notice_s=0).run()
    return [
        outcome.queue_s / outcome.compute_s,
        outcome.queue_s / len(calls),
        outcome.compute_s / len(calls),
        outcome.mean_batch,
        *np.percentile(outcome.latency_s, _PERCENTILES),
    ]


def draw(calls: Sequence[arrivals.Call], outcomes: dict[float, Outcome]) -> Figure:
    """Load, replicas and ratio over time, one line for each target."""
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    load, replicas, waits = figure.subplots(3, 1, sharex=True)
    at = np.asarray([call.at_s for call in calls])
    step_s = max(60.0, float(at[-1]) / 200)
    edges = np.arange(0.0, at[-1] + step_s, step_s)
    audio, _ = np.histogram(at, edges, weights=[call.audio_s for call in calls])
    load.fill_between(edges[:-1] / 3600, audio / step_s, step="post", color="#7a9cc6")
    load.set_ylabel("audio s a second")
    for target, outcome in outcomes.items():
        hours = [moment.at_s / 3600 for moment in outcome.moments]
        label = f"target {target:g}"
        replicas.step(hours, [m.wanted for m in outcome.moments], where="post", label=label, lw=1)
        order = np.argsort(at)
        worst = [
            (
                float(np.percentile(outcome.latency_s[order][(at >= a) & (at < b)], 95))
                if ((at >= a) & (at < b)).any()
                else np.nan
            )
            for a, b in pairwise(edges)
        ]
        waits.plot(edges[:-1] / 3600, worst, label=label, lw=1)
    replicas.set_ylabel("replicas wanted")
    replicas.legend(loc="upper right")
    waits.set_yscale("log")
    waits.set_ylabel("p95 of a call's words, s")
    waits.set_xlabel("hours")
    for axes in (load, replicas, waits):
        axes.grid(alpha=0.3)
    return figure
