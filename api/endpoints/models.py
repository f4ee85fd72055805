"""/models: which versions serve, and rolling out others."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import repository
from api.endpoints.context import AppState, app_state
from api.errors import UnusableRelease
from api.repository import LEAVES
from api.rollouts import transitions
from api.rollouts.operations import OPERATOR
from api.rollouts.types import Event, Plan, Rollout
from api.schemas import ErrorResponse
from api.serving.gates import Gates, Window, merged

router = APIRouter(prefix="/models", tags=["models"])

CANARY_STEPS = (10, 50, 100)
_REPORTS_WITHIN_S = 60.0

Share = Annotated[int, Field(ge=1, le=100)]


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
    revision: int | None = Field(None, description="Refuse (409) if the rollout has another one")

    @model_validator(mode="after")
    def _one_change(self) -> ChangeBody:
        if (self.status is None) == (self.weight is None):
            raise ValueError("Give status or weight")
        return self


class DecisionBody(BaseModel):
    """Guards a promotion or a rollback against another operator's change."""

    model_config = ConfigDict(extra="forbid")

    revision: int | None = Field(None, description="Refuse (409) if the rollout has another one")


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


class ModelResponse(BaseModel):
    """A model: what serves, since when, and what could."""

    name: str
    version: str
    checkpoint: str
    since: datetime
    versions: list[VersionResponse]
    rollout: RolloutResponse | None


class ModelList(BaseModel):
    items: list[ModelResponse]


_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no such model, version or rollout"},
    409: {"model": ErrorResponse, "description": "Its state doesn't allow it, or changed"},
    422: {"model": ErrorResponse, "description": "A field is wrong"},
    503: {"model": ErrorResponse, "description": "The database is away, locked or full"},
}
_READ: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (404, 503)}


@router.get("", summary="What serves, since when, from which checkpoint", responses=_READ)
async def list_models(request: Request) -> ModelList:
    parts = app_state(request)
    state = await parts.rollouts.store.state()
    active = {rollout.plan.model: rollout for rollout in state.active}
    items = []
    for model in LEAVES:
        serving = state.stable[model]
        versions = await asyncio.to_thread(
            _versions, parts, model, serving.version, active.get(model)
        )
        release = parts.serving.stable.releases[model]
        (checkpoint,) = [
            v.checkpoint or release.checkpoint for v in versions if v.version == serving.version
        ] or [release.checkpoint]
        rollout = active.get(model)
        items.append(
            ModelResponse(
                name=model,
                version=serving.version,
                checkpoint=checkpoint,
                since=serving.since,
                versions=versions,
                rollout=None if rollout is None else _response(rollout),
            )
        )
    return ModelList(items=items)


def _versions(
    parts: AppState, model: str, stable: str, rollout: Rollout | None
) -> list[VersionResponse]:
    trial = rollout.plan.version if rollout is not None else None
    weight = rollout.weight if rollout is not None else 0
    found = []
    for version in repository.versions(parts.rollouts.folder, model):
        traffic = {trial: weight, stable: 100 - weight}.get(version, 0)
        content: dict[str, Any] = {}
        reason: str | None = None
        try:
            content = repository.manifest(parts.rollouts.folder, model, version).content
        except UnusableRelease as error:
            reason = error.message
        state: Literal["serving", "on_trial", "available", "unusable"] = "available"
        if version == stable:
            state = "serving"
        elif reason is not None:
            state = "unusable"
        elif version == trial:
            state = "on_trial"
        found.append(
            VersionResponse(
                version=version,
                state=state,
                traffic=traffic,
                checkpoint=content.get("checkpoint"),
                bundled=content.get("bundled"),
                created=content.get("created"),
                reason=reason,
            )
        )
    return found


@router.post("/{name}/rollouts", status_code=202, summary="Begin a rollout", responses=_ERRORS)
async def start(request: Request, name: str, body: RolloutBody) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    rollouts.check_model(name)
    return _response(await rollouts.start(body.plan(name)))


@router.get("/{name}/rollouts", summary="A model's rollouts, newest first", responses=_READ)
async def list_rollouts(request: Request, name: str) -> RolloutList:
    rollouts = app_state(request).rollouts
    rollouts.check_model(name)
    return RolloutList(items=[_response(r) for r in await rollouts.store.of_model(name)])


@router.get("/{name}/rollouts/{rollout_id}", summary="One rollout", responses=_READ)
async def get_rollout(request: Request, name: str, rollout_id: int) -> RolloutDetails:
    store = app_state(request).rollouts.store
    rollout = await store.get(name, rollout_id)
    events = await store.events(rollout_id)
    figures = None
    if rollout.is_active:
        reports = await store.reports(_REPORTS_WITHIN_S)
        windows = [w for report in reports if (w := report.window(rollout)) is not None]
        figures = _figures(merged(windows))
    return RolloutDetails(
        **_response(rollout).model_dump(), history=[_event(e) for e in events], figures=figures
    )


@router.patch(
    "/{name}/rollouts/{rollout_id}", summary="Pause, resume, change the weight", responses=_ERRORS
)
async def change(request: Request, name: str, rollout_id: int, body: ChangeBody) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    await rollouts.store.get(name, rollout_id)
    weight = body.weight
    if weight is not None:
        wanted = weight
        changed = await rollouts.change(
            rollout_id, lambda r: transitions.set_weight(r, wanted), body.revision
        )
    else:
        transition = transitions.pause if body.status == "paused" else transitions.resume
        changed = await rollouts.change(rollout_id, transition, body.revision)
    return _response(changed)


@router.post(
    "/{name}/rollouts/{rollout_id}/promote",
    summary="Let the version on trial be the stable one",
    responses=_ERRORS,
)
async def promote(
    request: Request, name: str, rollout_id: int, body: DecisionBody | None = None
) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    await rollouts.store.get(name, rollout_id)
    revision = body.revision if body is not None else None
    return _response(await rollouts.promote(rollout_id, OPERATOR, revision))


@router.post(
    "/{name}/rollouts/{rollout_id}/rollback",
    summary="Let the version that served before serve",
    description="An active rollout ends. After a promotion a new rollout begins, which brings the "
    "version that served before back as soon as it is loaded; that rollout is answered.",
    responses=_ERRORS,
)
async def roll_back(
    request: Request, name: str, rollout_id: int, body: DecisionBody | None = None
) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    rollout = await rollouts.store.get(name, rollout_id)
    revision = body.revision if body is not None else None
    return _response(await rollouts.go_back(rollout, revision))


@router.delete("/{name}/rollouts/{rollout_id}", summary="The same as rollback", responses=_ERRORS)
async def delete(request: Request, name: str, rollout_id: int) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    return _response(await rollouts.go_back(await rollouts.store.get(name, rollout_id)))


def _response(rollout: Rollout) -> RolloutResponse:
    plan = rollout.plan
    return RolloutResponse(
        id=rollout.id,
        model=plan.model,
        version=plan.version,
        from_version=rollout.from_version,
        strategy=plan.strategy,
        status=rollout.status,
        reason=rollout.reason,
        weight=rollout.weight,
        step=rollout.step,
        steps=list(plan.steps),
        step_seconds=plan.step_seconds,
        gates=GatesBody(**vars(plan.gates)),
        auto_promote=plan.auto_promote,
        revision=rollout.revision,
        created_at=rollout.created_at,
        updated_at=rollout.updated_at,
    )


def _event(event: Event) -> EventResponse:
    return EventResponse(at=event.at, kind=event.kind, detail=dict(event.detail))


def _figures(window: Window) -> FiguresResponse:
    stable, candidate = (
        SideResponse(answered=side.answered, failed=side.failed, p95_s=side.p95_s)
        for side in (window.stable, window.candidate)
    )
    return FiguresResponse(
        stable=stable,
        candidate=candidate,
        agreement=window.agreement,
        compared=window.compared,
        dropped=window.dropped,
    )
