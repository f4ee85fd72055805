"""What the autoscaler makes of a load: a simulation of calls, replicas, scrapes and decisions.

    calls ─chunks─▶ replicas in turn ─batches─▶ done
                       │ counters
    every 15 s      scrape, ratio of the last minute's increases (rules.yml)
    every 15 s      the autoscaler's decision (hpa.py)
    + start_s       a new pod is ready, + notice_s the API asks it too; a leaving one finishes

All of it by one clock of events; the same load gives the same result.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from benchmarks.scaling.arrivals import Call
from benchmarks.scaling.batching import MAX_BATCH, MAX_DELAY_S, BatchCost, Replica, Waiting, chunks
from benchmarks.scaling.hpa import SYNC_S, Autoscaler, Scaling

SCRAPE_S: Final = 15.0
WINDOW_S: Final = 60.0
"""deploy/prometheus: scrape_interval, and rate(…[1m]) in rules.yml."""

STABLE_PHASE_S: Final = 7.0
"""Decisions come between two scrapes: the two clocks know nothing of each other."""

Kind = Literal["call", "look", "done", "scrape", "decide"]


@dataclass(frozen=True)
class Moment:
    """What was seen at a scrape."""

    at_s: float
    wanted: int
    ready: int
    waiting: int
    ratio: float


@dataclass(frozen=True)
class Outcome:
    """What became of a load.

    Attributes:
        latency_s: of each call, until its last chunk was done; shape (num_calls,).
        pod_s: seconds of all pods together, from when they were wanted until they were gone.
        queue_s, compute_s: sums over requests, as Triton counts them.
    """

    moments: Sequence[Moment]
    latency_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    pod_s: float
    queue_s: float
    compute_s: float
    mean_batch: float

    @property
    def p95_s(self) -> float:
        return float(np.percentile(self.latency_s, 95))

    @property
    def most_replicas(self) -> int:
        return max(moment.wanted for moment in self.moments)

    @property
    def changes(self) -> int:
        """How often the number of replicas changed."""
        wanted = [moment.wanted for moment in self.moments]
        return sum(a != b for a, b in pairwise(wanted))


@dataclass
class _Pods:
    """The pods there are, and those that were: their time is paid for."""

    alive: list[Replica]
    wanted_since: dict[int, float]
    paid_s: float = 0.0
    turn: int = 0
    gone: list[Replica] = field(default_factory=list)

    def next(self, now_s: float) -> Replica:
        """Round robin over the pods that the API's gRPC channel knows."""
        known = [r for r in self.alive if r.known_s <= now_s and not r.leaving]
        self.turn += 1
        return known[self.turn % len(known)]

    def ready(self, now_s: float) -> int:
        return sum(r.ready_s <= now_s and not r.leaving for r in self.alive)

    def remove(self, replica: Replica, now_s: float) -> None:
        self.alive.remove(replica)
        self.gone.append(replica)
        self.paid_s += now_s - self.wanted_since.pop(id(replica))


class Simulation:
    """One run over a load; `run` once."""

    def __init__(
        self,
        calls: Sequence[Call],
        cost: BatchCost,
        scaling: Scaling,
        *,
        start_s: float,
        notice_s: float,
    ) -> None:
        self._calls, self._cost = calls, cost
        self._start_s, self._notice_s = start_s, notice_s
        self._scaler = Autoscaler(scaling)
        self._events: list[tuple[float, int, Kind, object]] = []
        self._number = 0
        self._pods = _Pods([], {})
        for _ in range(scaling.least):
            self._add_pod(-start_s - notice_s)
        self._open = [0] * len(calls)
        self._done_s = [math.nan] * len(calls)
        self._scrapes: deque[tuple[float, float, float]] = deque()
        self._ratio = 0.0
        self._moments: list[Moment] = []

    def run(self) -> Outcome:
        """Plays all calls until the last is done."""
        for number, call in enumerate(self._calls):
            self._at(call.at_s, "call", number)
        self._at(0.0, "scrape", None)
        self._at(STABLE_PHASE_S, "decide", None)
        now_s = 0.0
        while self._events:
            now_s, _, kind, about = heapq.heappop(self._events)
            self._handle(kind, about, now_s)
        for replica in list(self._pods.alive):
            self._pods.remove(replica, now_s)
        pods = self._pods.gone
        requests = sum(r.requests for r in pods)
        return Outcome(
            self._moments,
            np.asarray(self._done_s) - np.asarray([call.at_s for call in self._calls]),
            self._pods.paid_s,
            sum(r.queue_s for r in pods),
            sum(r.compute_s for r in pods),
            requests / sum(r.batches for r in pods),
        )

    def _handle(self, kind: Kind, about: object, now_s: float) -> None:
        if kind == "call":
            assert isinstance(about, int)
            self._arrive(about, now_s)
        elif kind == "look":
            assert isinstance(about, Replica)
            self._start(about, now_s)
        elif kind == "done":
            assert isinstance(about, tuple)
            self._finish(about[0], about[1], now_s)
        elif kind == "scrape":
            self._scrape(now_s)
        elif kind == "decide":
            self._decide(now_s)

    def _arrive(self, number: int, now_s: float) -> None:
        pieces = chunks(self._calls[number].audio_s)
        self._open[number] = len(pieces)
        for piece_s in pieces:
            replica = self._pods.next(now_s)
            replica.queue.append(Waiting(number, now_s, piece_s))
            if not replica.busy:
                self._start(replica, now_s)

    def _start(self, replica: Replica, now_s: float) -> None:
        if replica.busy or not replica.queue:
            return
        oldest_s = now_s - replica.queue[0].since_s
        if len(replica.queue) < MAX_BATCH and oldest_s < MAX_DELAY_S - 1e-9:
            self._at(replica.queue[0].since_s + MAX_DELAY_S, "look", replica)
            return
        batch, seconds = replica.take(now_s, self._cost)
        self._at(now_s + seconds, "done", (replica, batch))

    def _finish(self, replica: Replica, batch: Sequence[Waiting], now_s: float) -> None:
        for piece in batch:
            self._open[piece.call] -= 1
            if self._open[piece.call] == 0:
                self._done_s[piece.call] = now_s
        replica.busy = False
        self._start(replica, now_s)
        if replica.leaving and not replica.busy and not replica.queue:
            self._pods.remove(replica, now_s)

    def _scrape(self, now_s: float) -> None:
        """Prometheus' rate over a minute: the increase between its first and its last sample.

        Summed over pods, as the rule does. A pod that left keeps its last counters here; in
        Prometheus its series ends, which changes the ratio only while it leaves.
        """
        everyone = [*self._pods.alive, *self._pods.gone]
        queue_s = sum(r.queue_s for r in everyone)
        compute_s = sum(r.compute_s for r in everyone)
        self._scrapes.append((now_s, queue_s, compute_s))
        while self._scrapes[0][0] < now_s - WINDOW_S:
            self._scrapes.popleft()
        _, queue_before_s, compute_before_s = self._scrapes[0]
        computed_s = compute_s - compute_before_s
        self._ratio = (queue_s - queue_before_s) / computed_s if computed_s > 0 else 0.0
        self._moments.append(
            Moment(
                now_s,
                self._wanted(),
                self._pods.ready(now_s),
                sum(len(r.queue) for r in self._pods.alive),
                self._ratio,
            )
        )
        if self._goes_on(now_s):
            self._at(now_s + SCRAPE_S, "scrape", None)

    def _decide(self, now_s: float) -> None:
        current = self._wanted()
        wanted = self._scaler.sync(now_s, current, self._pods.ready(now_s), self._ratio)
        for _ in range(wanted - current):
            self._add_pod(now_s)
        for _ in range(current - wanted):
            self._end_pod(now_s)
        if self._goes_on(now_s):
            self._at(now_s + SYNC_S, "decide", None)

    def _add_pod(self, now_s: float) -> None:
        ready_s = now_s + self._start_s
        replica = Replica(ready_s, ready_s + self._notice_s)
        self._pods.alive.append(replica)
        self._pods.wanted_since[id(replica)] = max(now_s, 0.0)

    def _end_pod(self, now_s: float) -> None:
        """Pods that aren't ready go first, then the youngest: Kubernetes' order."""
        staying = [r for r in self._pods.alive if not r.leaving]
        replica = max(staying, key=lambda r: r.ready_s)
        replica.leaving = True
        if not replica.busy and not replica.queue:
            self._pods.remove(replica, now_s)

    def _wanted(self) -> int:
        return sum(not r.leaving for r in self._pods.alive)

    def _goes_on(self, now_s: float) -> bool:
        return now_s < self._calls[-1].at_s or any(math.isnan(done) for done in self._done_s)

    def _at(self, at_s: float, kind: Kind, about: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (at_s, self._number, kind, about))
