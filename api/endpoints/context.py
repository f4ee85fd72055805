"""What endpoints share: the app's parts, and work that ends when its caller hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from fastapi import Request
from fastapi.requests import HTTPConnection

from api.jobs.service import Jobs
from api.metrics import Metrics
from api.middleware import ClientGone
from api.probe import HealthMonitor
from api.rollouts.operations import Rollouts
from api.service import AnalysisService
from api.serving import Serving
from api.settings import Settings
from api.store.analyses import AnalysisStore
from api.store.profiles import ProfileStore
from api.streaming.connection import Connections

T = TypeVar("T")


@dataclass(frozen=True)
class AppState:
    """What the lifespan opened."""

    settings: Settings
    service: AnalysisService
    streams: Connections
    jobs: Jobs
    store: AnalysisStore
    profiles: ProfileStore
    health: HealthMonitor
    metrics: Metrics
    serving: Serving
    rollouts: Rollouts
    started_at: float


def app_state(request: HTTPConnection) -> AppState:
    return cast(AppState, request.app.state.parts)


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, but cancel it, and with it its calls to Triton, when the caller hangs up.

    Raises:
        ClientGone: the caller hung up.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
