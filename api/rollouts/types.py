"""What a rollout is.

preparing ──▶ running ◀──▶ paused      the version on trial is loaded
    │            ├──▶ promoted         it is the stable one now
    │            └──▶ rolled_back      a gate was broken, or an operator said so
    └──▶ failed                        it never got traffic: files, loading, warm-up, golden
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from api.serving.gates import Gates

Strategy = Literal["shadow", "canary", "blue_green"]
Status = Literal["preparing", "running", "paused", "promoted", "rolled_back", "failed"]

ACTIVE: frozenset[Status] = frozenset({"preparing", "running", "paused"})
ON_TRIAL: frozenset[Status] = frozenset({"running", "paused"})


@dataclass(frozen=True)
class Plan:
    """What an operator asks for.

    Attributes:
        steps: canary: shares of traffic in percent, one after the other; shadow: the one share of
            requests that is copied; blue_green: none.
        step_seconds: least time in each step.
        auto_promote: whether a version that passed its last step is promoted without being told.
    """

    model: str
    version: str
    strategy: Strategy
    steps: tuple[int, ...]
    step_seconds: float
    gates: Gates
    auto_promote: bool


@dataclass(frozen=True)
class Rollout:
    """One rollout as the database has it.

    Attributes:
        step: index into the plan's steps.
        weight: percent of traffic now; an operator may have set it.
        revision: counts up with each change, so that two operators don't overwrite each other.
        step_at: when the step began.
    """

    id: int
    plan: Plan
    from_version: str
    status: Status
    reason: str | None
    step: int
    weight: int
    revision: int
    created_at: datetime
    updated_at: datetime
    step_at: datetime

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_last_step(self) -> bool:
        return self.step >= len(self.plan.steps) - 1


@dataclass(frozen=True)
class Event:
    """Something that happened to a rollout."""

    at: datetime
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Stable:
    """The version of a model that serves, and since when."""

    model: str
    version: str
    since: datetime


@dataclass(frozen=True)
class State:
    """All that decides about traffic, as of a revision."""

    revision: int
    stable: Mapping[str, Stable]
    active: tuple[Rollout, ...]
    retiring: bool
    """A change of versions isn't carried out to its end yet: something is still to be unloaded."""

    @property
    def is_settled(self) -> bool:
        return not self.active and not self.retiring
