"""What happened in a run: what was accepted, what went wrong on the way, and what was killed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from benchmarks.soak.answers import Essence

Route = Literal["analysis", "stream", "job"]
Kill = Literal["worker", "stub", "triton", "postgres", "redis"]

GRACE_S: Final = 10.0
"""After everything was back, so long may callers still notice: each worker looks by itself."""

EXCUSES: Final[dict[str, frozenset[Kill]]] = {
    "connection broken": frozenset({"worker"}),
    "stream lost": frozenset({"worker"}),
    "503": frozenset({"stub", "triton", "postgres"}),
    "stream refused": frozenset({"stub", "triton", "postgres"}),
    "rollout ended": frozenset({"stub", "triton"}),
}
"""Which kills explain what callers were told; by all others it is a fault."""


@dataclass(frozen=True)
class Outage:
    """From a kill until all was back; `over_s` is None while it isn't. Seconds of the run."""

    kind: Kill
    victim: str
    began_s: float
    over_s: float | None


@dataclass(frozen=True)
class Trouble:
    """An attempt that has to be made again, as any client would: from when to when it ran."""

    kind: str
    said: str
    began_s: float
    ended_s: float


@dataclass
class Accepted:
    """A recording that the service has taken.

    Attributes:
        id: of the analysis; for a job, of the job.
        answer: None until a job is done.
        latency_s: from the first attempt to the answer.
    """

    route: Route
    recording: str
    id: str
    at_s: float
    latency_s: float | None = None
    answer: dict[str, Any] | None = None
    finals: list[str] | None = None
    end: str | None = None


@dataclass(frozen=True)
class Fault:
    """What must not be."""

    kind: str
    at_s: float
    what: str


@dataclass
class Ledger:
    """Everything that one run saw; times are seconds since it began."""

    began: float = field(default_factory=time.monotonic)
    quiet: dict[tuple[Route, str], Essence] = field(default_factory=dict)
    quiet_finals: dict[str, list[str]] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    resumed: int = 0
    faults: list[Fault] = field(default_factory=list)

    def now_s(self) -> float:
        return time.monotonic() - self.began

    def fault(self, kind: str, what: str) -> None:
        """Note what must not be."""
        self.faults.append(Fault(kind, round(self.now_s(), 1), what))

    def trouble(self, kind: str, said: str, began_s: float) -> None:
        """Note an attempt that began then and has just failed."""
        self.troubles.append(Trouble(kind, said, began_s, self.now_s()))

    def excuse(self, trouble: Trouble) -> Outage | None:
        """The outage during which it happened, and which explains it."""
        for outage in self.outages:
            over_s = float("inf") if outage.over_s is None else outage.over_s + GRACE_S
            meets = trouble.ended_s >= outage.began_s and trouble.began_s <= over_s
            if meets and outage.kind in EXCUSES.get(trouble.kind, ()):
                return outage
        return None
