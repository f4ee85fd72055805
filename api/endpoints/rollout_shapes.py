"""What operators send to /models and get from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.rollouts.types import Plan
from api.serving.gates import Gates

CANARY_STEPS = (10, 50, 100)

Share = Annotated[int, Field(ge=1, le=100)]
RolloutId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Revision = Annotated[int, Field(ge=1, le=2**31 - 1)]


class GatesBody(BaseModel):
    """Bounds of a trial; null switches one off."""

    model_config = ConfigDict(extra="forbid")

    min_requests: int = Field(
        50, ge=1, le=100_000, description="Answered by the version on trial in each step"
    )
    error_rate: float = Field(0.02, ge=0, le=1, description="Largest share that may fail")
    p95_ratio: float | None = Field(
        2.0, gt=0, description="Its 95th percentile of latency over the stable version's"
    )
    agreement: float | None = Field(
        0.5, ge=0, le=1, description="Smallest mean agreement with the stable version"
    )
    golden: bool = Field(True, description="It has to stand the golden recordings first")


class RolloutBody(BaseModel):
    """A rollout to begin."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field(pattern=r"^[1-9][0-9]{0,17}$", examples=["2"])
    strategy: Literal["shadow", "canary", "blue_green"] = "canary"
    weight: Share | None = Field(None, description="One share of traffic, in percent")
    steps: list[Share] | None = Field(
        None, min_length=1, max_length=20, description="Shares of traffic one after the other"
    )
    step_seconds: float = Field(300.0, ge=0, le=7 * 86_400, description="Least time in a step")
    gates: GatesBody = Field(default_factory=lambda: GatesBody.model_validate({}))
    auto_promote: bool = Field(False, description="Promote it when it passed the last step")

    @model_validator(mode="after")
    def _consistent(self) -> RolloutBody:
        if self.weight is not None and self.steps is not None:
            raise ValueError("weight and steps exclude each other")
        if self.strategy == "blue_green" and (self.weight or self.steps):
            raise ValueError("blue_green changes all traffic at once: it has no weight or steps")
        if self.strategy == "shadow" and self.steps:
            raise ValueError("shadow has a weight, the share of requests that are copied")
        if self.steps and self.steps != sorted(set(self.steps)):
            raise ValueError("steps must grow")
        return self

    def plan(self, model: str) -> Plan:
        steps: tuple[int, ...] = tuple(self.steps or ())
        if self.weight is not None:
            steps = (self.weight,)
        elif self.strategy == "canary" and not steps:
            steps = CANARY_STEPS
        elif self.strategy == "shadow":
            steps = (100,)
        return Plan(
            model=model,
            version=self.version,
            strategy=self.strategy,
            steps=steps,
            step_seconds=0.0 if self.strategy == "blue_green" else self.step_seconds,
            gates=Gates(**self.gates.model_dump()),
            auto_promote=self.auto_promote,
        )


class ChangeBody(BaseModel):
    """What to change of a rollout; `revision` guards against another operator's change."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["paused", "running"] | None = None
    weight: Share | None = Field(None, description="Share of traffic of a canary, in percent")
    revision: Revision | None = Field(
        None, description="Refuse (409) if the rollout has another one"
    )

    @model_validator(mode="after")
    def _one_change(self) -> ChangeBody:
        if (self.status is None) == (self.weight is None):
            raise ValueError("Give status or weight")
        return self


class DecisionBody(BaseModel):
    """Guards a promotion or a rollback against another operator's change."""

    model_config = ConfigDict(extra="forbid")

    revision: Revision | None = Field(
        None, description="Refuse (409) if the rollout has another one"
    )


class EventResponse(BaseModel):
    at: datetime
    kind: str
    detail: dict[str, Any]


class SideResponse(BaseModel):
    """One version since the step began, over all workers."""

    answered: int
    failed: int
    p95_s: float | None = Field(description="95th percentile of its calls' latency")


class FiguresResponse(BaseModel):
    """What is measured since the step began."""

    stable: SideResponse
    candidate: SideResponse
    agreement: float | None = Field(description="Mean over the latest comparisons")
    compared: int
    dropped: int = Field(description="Copies that found no room")


class RolloutResponse(BaseModel):
    """A rollout."""

    id: int
    model: str
    version: str
    from_version: str
    strategy: str
    status: Literal["preparing", "running", "paused", "promoted", "rolled_back", "failed"]
    reason: str | None
    weight: int = Field(description="Share of traffic that the version answers, in percent")
    step: int
    steps: list[int]
    step_seconds: float
    gates: GatesBody
    auto_promote: bool
    revision: int
    created_at: datetime
    updated_at: datetime


class RolloutDetails(RolloutResponse):
    """A rollout with its history, and, while it runs, its figures."""

    history: list[EventResponse]
    figures: FiguresResponse | None


class RolloutList(BaseModel):
    items: list[RolloutResponse]


class VersionResponse(BaseModel):
    """A version of a model on disk."""

    version: str
    state: Literal["serving", "on_trial", "available", "unusable"]
    traffic: int = Field(description="Share of traffic, in percent")
    checkpoint: str | None
    bundled: bool | None
    created: str | None
    reason: str | None = Field(None, description="Why it can't be used")


class ServedModelResponse(BaseModel):
    """A model: what serves, since when, and what could."""

    name: str
    version: str
    checkpoint: str
    since: datetime
    versions: list[VersionResponse]
    rollout: RolloutResponse | None


class ModelList(BaseModel):
    items: list[ServedModelResponse]
