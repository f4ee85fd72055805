"""GET /health, /health/live, /health/ready: is the process alive, and can it answer."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.endpoints.context import app_state
from api.errors import ModelUnavailable
from api.schemas import BUNDLED_NOTE, ErrorResponse
from api.version import VERSION

router = APIRouter(tags=["health"])


class ModelHealth(BaseModel):
    """One model's release, and whether it answered a moment ago."""

    version: str
    checkpoint: str
    bundled: bool
    ready: bool
    note: str | None = None


class HealthResponse(BaseModel):
    """The whole service at a glance."""

    status: Literal["ok", "degraded"]
    version: str
    uptime_s: float
    triton: str = Field(description="gRPC address of the model server")
    models: dict[str, ModelHealth]


@router.get("/health", summary="The service at a glance")
async def health(request: Request) -> HealthResponse:
    state = app_state(request)
    models = {
        name: ModelHealth(
            version=release.version,
            checkpoint=release.checkpoint,
            bundled=release.bundled,
            ready=state.health.models[name],
            note=BUNDLED_NOTE if release.bundled else None,
        )
        for name, release in state.serving.stable.releases.items()
    }
    return HealthResponse(
        status="ok" if state.health.is_ready else "degraded",
        version=VERSION,
        uptime_s=time.monotonic() - state.started_at,
        triton=state.settings.triton_url or "",
        models=models,
    )


@router.get("/health/live", summary="The process is alive")
async def live() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/health/ready",
    summary="Every model answers",
    responses={503: {"model": ErrorResponse, "description": "A model is away"}},
)
async def ready(request: Request) -> dict[str, str]:
    monitor = app_state(request).health
    if not monitor.is_ready:
        raise ModelUnavailable("A model is away", models=monitor.models)
    return {"status": "ready"}
