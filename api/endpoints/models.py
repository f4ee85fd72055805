"""/models: which versions serve, and rolling out others."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request

from api import repository
from api.endpoints.context import AppState, app_state
from api.endpoints.rollout_shapes import (
    ChangeBody,
    DecisionBody,
    EventResponse,
    FiguresResponse,
    GatesBody,
    ModelList,
    RolloutBody,
    RolloutDetails,
    RolloutId,
    RolloutList,
    RolloutResponse,
    ServedModelResponse,
    SideResponse,
    VersionResponse,
)
from api.errors import StoreUnavailable, UnusableRelease
from api.repository import LEAVES
from api.rollouts import transitions
from api.rollouts.operations import OPERATOR
from api.rollouts.types import Event, Rollout
from api.schemas import ErrorResponse
from api.serving.gates import Window, merged

router = APIRouter(prefix="/models", tags=["models"])

_REPORTS_WITHIN_S = 60.0

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body can't be read"},
    404: {"model": ErrorResponse, "description": "There is no such model, version or rollout"},
    409: {"model": ErrorResponse, "description": "Its state doesn't allow it, or changed"},
    422: {"model": ErrorResponse, "description": "A field is wrong"},
    503: {"model": ErrorResponse, "description": "The database is away, locked or full"},
}
_READ: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (404, 422, 503)}


@router.get("", summary="What serves, since when, from which checkpoint", responses=_READ)
async def list_models(request: Request) -> ModelList:
    parts = app_state(request)
    state = await parts.rollouts.store.state()
    if not state.stable:
        raise StoreUnavailable("The database has just come up; what serves is being written down")
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
            ServedModelResponse(
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
async def get_rollout(request: Request, name: str, rollout_id: RolloutId) -> RolloutDetails:
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
async def change(
    request: Request, name: str, rollout_id: RolloutId, body: ChangeBody
) -> RolloutResponse:
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
    request: Request, name: str, rollout_id: RolloutId, body: DecisionBody | None = None
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
    request: Request, name: str, rollout_id: RolloutId, body: DecisionBody | None = None
) -> RolloutResponse:
    rollouts = app_state(request).rollouts
    rollout = await rollouts.store.get(name, rollout_id)
    revision = body.revision if body is not None else None
    return _response(await rollouts.go_back(rollout, revision))


@router.delete("/{name}/rollouts/{rollout_id}", summary="The same as rollback", responses=_ERRORS)
async def delete(request: Request, name: str, rollout_id: RolloutId) -> RolloutResponse:
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
