"""One soak: quiet answers first, then load, rollouts and kills side by side, then the reckoning."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.errors import BenchmarkError
from benchmarks.load import machine
from benchmarks.rollouts import Service, moved_labels, publish
from benchmarks.soak import chaos
from benchmarks.soak.callers import Callers
from benchmarks.soak.growth import MIB, growths
from benchmarks.soak.judge import check_store, counts, faults
from benchmarks.soak.ledger import Ledger, Route
from benchmarks.soak.meter import Meter, Sample, role_of
from benchmarks.soak.recordings import Recording, recordings
from benchmarks.soak.rolling import roll_forth_and_back

ROUTES: Final[tuple[tuple[Route, float], ...]] = (("analysis", 0.6), ("stream", 0.2), ("job", 0.2))
"""How often each way is taken."""

GONE_WITHIN_S: Final = 10.0
"""What workers are forked from ends a moment after the service does."""

_UNHURT: Final = 0.15
"""Share of the run, at its end, in which nothing is killed: what was accepted comes to its end."""


@dataclass(frozen=True)
class Plan:
    """What a soak is to do; `rollout_every_s` from a rollout's beginning to the next one's."""

    seconds: float
    per_minute: float
    kill_every_s: float
    rollout_every_s: float
    sample_every_s: float
    warm_s: float
    seed: int


class Soak:
    """Holds what one run knows, so that an interrupted one can still be judged."""

    def __init__(self, service: Service, plan: Plan, say: Callable[[str], None]) -> None:
        manifest = json.loads((service.repository / "emotion/1/manifest.json").read_text())
        self._service = service
        self._plan = plan
        self._say = say
        self._recordings = recordings()
        self._meter = Meter(service.process.pid)
        self._samples: list[Sample] = []
        self._loads: list[float] = []
        self._cpu_before: dict[int, float] = {}
        self._cpu_s: dict[int, float] = {}
        self._stopped = asyncio.Event()
        self._stored = 0
        self._lasted_s = 0.0
        self.interrupted = False
        self.ledger = Ledger()
        self.callers = Callers(service.url, manifest["labels"], self.ledger, plan.seed)
        publish(service.repository, "emotion", "2", moved_labels)

    def interrupt(self) -> None:
        """Stop early: what is under way is finished and judged."""
        self.interrupted = True
        self._stopped.set()

    async def run(self) -> None:
        """Everything but the end of the service."""
        await self._ask_quietly()
        self.ledger.began = time.monotonic()
        hurting = self._plan.seconds * (1 - _UNHURT)
        watching = asyncio.create_task(self._watch())
        killing = asyncio.create_task(self._kill(hurting))
        rolling = asyncio.create_task(self._roll(hurting))
        await self._load(killing, rolling)
        self._lasted_s = self.ledger.now_s()
        self._say("reckoning")
        await asyncio.gather(killing, rolling)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        self._stored = await check_store(self.callers, self.ledger)
        await self.callers.close()

    def left_over(self) -> list[str]:
        """What is still there of a service that was stopped, a while after that."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while (left := self._still_there()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _still_there(self) -> list[str]:
        pids = {usage.pid for sample in self._samples for usage in sample.processes}
        alive = [f"{role}, process {pid}" for pid in sorted(pids) if (role := role_of(pid))]
        regions = len(self._meter.regions())
        return alive + ([f"{regions} regions of shared memory"] if regions else [])

    def results(self) -> dict[str, Any]:
        """The whole report's content, after the service was stopped."""
        plan, ledger = self._plan, self.ledger
        grown = growths(self._samples, ledger.outages, plan.warm_s)
        found = faults(ledger, grown, self.left_over())
        return {
            "scenario": {"name": "soak"},
            "machine": machine.facts(),
            "databases": " and ".join(sorted(_databases())),
            **{key: getattr(plan, key) for key in ("per_minute", "kill_every_s", "seed")},
            "wanted_s": plan.seconds,
            "lasted_s": round(self._lasted_s, 1),
            "interrupted": self.interrupted,
            "cpu_cores": round(self._cpu_cores(), 3),
            "load_average": round(sum(self._loads) / max(1, len(self._loads)), 2),
            "counts": counts(ledger),
            "stored": self._stored,
            "outages": [asdict(outage) for outage in ledger.outages],
            "rollouts": ledger.rollouts,
            "troubles": [asdict(trouble) for trouble in ledger.troubles],
            "growth": [
                {**asdict(g), "is_judged": g.is_judged, "is_flat": g.is_flat} for g in grown
            ],
            "faults": [asdict(fault) for fault in found],
            "passed": not found,
            "answered": [
                {"route": a.route, "at_s": round(a.at_s, 1), "latency_s": round(a.latency_s, 3)}
                for a in ledger.accepted
                if a.latency_s is not None
            ],
            "series": [_in_series(sample) for sample in self._samples],
        }

    async def _ask_quietly(self) -> None:
        """Every recording by every way, one after the other: what all answers must be like."""
        for recording in self._recordings:
            for route, _ in ROUTES:
                await self.callers.ask(route, recording, quiet=True)
        wanted = len(self._recordings) * len(ROUTES)
        self._say(f"{len(self.ledger.quiet)} of {wanted} quiet answers")
        if len(self.ledger.quiet) < wanted:
            raise BenchmarkError(f"the quiet run failed: {self.ledger.faults}")

    async def _load(self, *until: asyncio.Task[None]) -> None:
        """Recordings at a constant rate, whatever becomes of those before.

        They go on until the last kill and rollout are over: a kill in silence harms nobody, and a
        canary that nobody asks is never judged.
        """
        rng = random.Random(self._plan.seed)
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while not self._stopped.is_set():
            due_s = number * 60 / self._plan.per_minute
            if due_s >= self._plan.seconds and all(task.done() for task in until):
                break
            if await self._pause(due_s - self.ledger.now_s()):
                break
            task = asyncio.create_task(self.callers.ask(*self._choose(rng)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        await asyncio.gather(*under_way)

    def _choose(self, rng: random.Random) -> tuple[Route, Recording]:
        (route,) = rng.choices([name for name, _ in ROUTES], [share for _, share in ROUTES])
        return route, rng.choice(self._recordings)

    async def _kill(self, until_s: float) -> None:
        """One kill after the other, each kind at least once; follows the last until all is back."""
        hurt = chaos.Chaos(self._service.url, self._meter, self.ledger, self._plan.seed)
        every_s, kinds = self._plan.kill_every_s, chaos.kinds()
        schedule = chaos.schedule(self._plan.seed, every_s, kinds)
        for number, (pause_s, kind) in enumerate(schedule):
            is_over = self.ledger.now_s() + pause_s > until_s
            if (is_over and number >= len(kinds)) or await self._pause(pause_s):
                return
            await hurt.strike(kind)

    async def _roll(self, until_s: float) -> None:
        """One canary forth and back after the other."""
        every_s = self._plan.rollout_every_s
        number = 0
        while True:
            due_s = (number + 0.3) * every_s
            if await self._pause(due_s - self.ledger.now_s()) or self.ledger.now_s() > until_s:
                return
            await roll_forth_and_back(self.callers, self.ledger, min(15.0, every_s / 10))
            number = max(number + 1, int(self.ledger.now_s() / every_s))

    async def _watch(self) -> None:
        """Samples, and a line now and then, until cancelled."""
        said_s = 0.0
        while True:
            sample = self._meter.sample(self.ledger.now_s())
            self._samples.append(sample)
            self._loads.append(os.getloadavg()[0])
            cpu_s = {usage.pid: usage.cpu_s for usage in sample.processes}
            self._cpu_before = self._cpu_before or cpu_s
            self._cpu_s |= cpu_s
            if sample.at_s - said_s >= 30:
                said_s = sample.at_s
                self._say(self._progress(sample))
            await asyncio.sleep(self._plan.sample_every_s)

    def _cpu_cores(self) -> float:
        """Cores in use on average; what dies between two samples counts up to the first of them."""
        used = sum(s - self._cpu_before.get(pid, 0.0) for pid, s in self._cpu_s.items())
        return used / max(1.0, self._lasted_s)

    def _progress(self, sample: Sample) -> str:
        ledger = self.ledger
        answered = sum(taken.answer is not None for taken in ledger.accepted)
        memory = sum(usage.own_bytes for usage in sample.processes) / MIB
        return (
            f"{sample.at_s / 60:.1f} min: {answered} answered, {len(ledger.troubles)} asked again, "
            f"{len(ledger.outages)} kills, {len(ledger.rollouts)} rollouts, {memory:.0f} MiB, "
            f"{sample.regions} regions, {len(ledger.faults)} faults"
        )

    async def _pause(self, seconds: float) -> bool:
        """Sleeps; returns whether the run was interrupted meanwhile."""
        if seconds <= 0:
            return self._stopped.is_set()
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True


def _databases() -> list[str]:
    return ["PostgreSQL" if "postgres" in chaos.kinds() else "SQLite"] + (
        ["Redis"] if "redis" in chaos.kinds() else []
    )


def _in_series(sample: Sample) -> dict[str, Any]:
    return {
        "at_s": round(sample.at_s, 1),
        "processes": [
            {
                "role": usage.role,
                "pid": usage.pid,
                "own_mib": round(usage.own_bytes / MIB, 1),
                "descriptors": usage.descriptors,
            }
            for usage in sample.processes
        ],
        "regions": sample.regions,
        "regions_mib": round(sample.region_bytes / MIB, 1),
    }
