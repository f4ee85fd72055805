"""What the service answers about its models' versions, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from typing_extensions import TypedDict

Strategy = Literal["shadow", "canary", "blue_green"]


class Gates(TypedDict, total=False):
    """Bounds of a trial; None switches one off, what is left out is the service's choice."""

    min_requests: int
    error_rate: float
    p95_ratio: float | None
    agreement: float | None
    golden: bool


@dataclass(frozen=True)
class Rollout:
    """A version's way into service; `weight` is its share of traffic in percent."""

    id: int
    model: str
    version: str
    from_version: str
    strategy: str
    status: Literal["preparing", "running", "paused", "promoted", "rolled_back", "failed"]
    reason: str | None
    weight: int
    step: int
    steps: tuple[int, ...]
    step_seconds: float
    gates: dict[str, Any]
    auto_promote: bool
    revision: int
    created_at: datetime
    updated_at: datetime
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class RolloutEvent:
    """Something that happened to a rollout."""

    at: datetime
    kind: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class RolloutSide:
    """One version's requests since the step began, over all workers."""

    answered: int
    failed: int
    p95_s: float | None


@dataclass(frozen=True)
class RolloutFigures:
    """What was measured since the step began; `dropped` copies found no room."""

    stable: RolloutSide
    candidate: RolloutSide
    agreement: float | None
    compared: int
    dropped: int


@dataclass(frozen=True)
class RolloutDetails(Rollout):
    """A rollout with its history, and, while it runs, its figures."""

    history: tuple[RolloutEvent, ...] = ()
    figures: RolloutFigures | None = None


@dataclass(frozen=True)
class RolloutList:
    """A model's rollouts, newest first."""

    items: tuple[Rollout, ...]


@dataclass(frozen=True)
class Version:
    """A version of a model on disk; `traffic` in percent, `reason` says why it can't be used."""

    version: str
    state: Literal["serving", "on_trial", "available", "unusable"]
    traffic: int
    checkpoint: str | None
    bundled: bool | None
    created: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Model:
    """A model: what serves, since when, and what could."""

    name: str
    version: str
    checkpoint: str
    since: datetime
    versions: tuple[Version, ...]
    rollout: Rollout | None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ModelList:
    """All models."""

    items: tuple[Model, ...]
