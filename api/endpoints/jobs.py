"""/audio/jobs: long recordings are taken at once and analysed while nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Form, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.endpoints.audio import RecordingForm
from api.endpoints.context import AppState, app_state
from api.errors import NotFound, StoreUnavailable
from api.jobs.schemas import JobResponse, JobsPageResponse
from api.jobs.service import LONGEST_KEY
from api.jobs.webhooks import LONGEST_URL
from api.schemas import ErrorResponse
from api.store.jobs import Job, Status

router = APIRouter(prefix="/audio/jobs", tags=["jobs"])

LOOK_S = 0.5
"""Between two looks at a job that somebody watches: any worker may be at work on it."""

HEARTBEAT_S = 15.0
"""Proxies close what is silent for longer, nginx after 60 s."""


class JobForm(RecordingForm):
    """As for POST /audio/analyze, and whom to tell of the end."""

    webhook_url: str | None = Field(
        None, max_length=LONGEST_URL, description="Is called, signed, when the job has ended"
    )


class JobsQuery(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, description="`next_cursor` of the page before")


def _errors(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    away = {503: "The database or the disk is away, locked or full"}
    return {
        status: {"model": ErrorResponse, "description": description}
        for status, description in {**descriptions, **away}.items()
    }


_NONE = {404: "There is no job by that id"}


@router.post(
    "",
    status_code=202,
    summary="Analyze a long recording in the background",
    responses=_errors(
        {
            400: "Not audio, or empty",
            409: "The Idempotency-Key was used for another request",
            413: "Too large",
            415: "A format that can't be decoded",
            422: "An option is wrong",
        }
    ),
)
async def create_job(
    request: Request,
    response: Response,
    form: Annotated[JobForm, Form(media_type="multipart/form-data")],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=LONGEST_KEY)] = None,
) -> JobResponse:
    job = await app_state(request).jobs.accept(
        form.file.file,
        form.options(),
        webhook_url=form.webhook_url,
        idempotency_key=idempotency_key,
    )
    response.headers["Location"] = f"/audio/jobs/{job.id}"
    return JobResponse.model_validate(job)


@router.get("", summary="List jobs, newest first", responses=_errors({422: "A filter is wrong"}))
async def list_jobs(request: Request, query: Annotated[JobsQuery, Query()]) -> JobsPageResponse:
    store = app_state(request).jobs.store
    page = await store.list(query.status, limit=query.limit, cursor=query.cursor)
    return JobsPageResponse.model_validate(page)


@router.get("/{job_id}", summary="One job", responses=_errors(_NONE))
async def get_job(request: Request, job_id: str) -> JobResponse:
    return JobResponse.model_validate(await app_state(request).jobs.store.get(job_id))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Cancel a job",
    responses=_errors({**_NONE, 409: "The job has succeeded or failed"}),
)
async def cancel_job(request: Request, job_id: str) -> None:
    await app_state(request).jobs.cancel(job_id)


@router.get(
    "/{job_id}/events",
    summary="A job's progress, as server-sent events",
    response_class=StreamingResponse,
    responses=_errors(_NONE)
    | {
        200: {"content": {"text/event-stream": {}}, "description": "Ends when the job has ended"},
        204: {"description": "The job has ended, and the last event was seen: nothing will come"},
    },
)
async def job_events(
    request: Request,
    job_id: str,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    state = app_state(request)
    job = await state.jobs.store.get(job_id)
    seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
    if job.has_ended and seen >= job.revision:
        return Response(status_code=204)
    return StreamingResponse(
        _events(state, job, seen),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _events(state: AppState, job: Job, seen: int) -> AsyncIterator[str]:
    """The job as it is, and again after every change; each event says all there is to know."""
    said_at = time.monotonic()
    while True:
        if job.revision > seen:
            seen, said_at = job.revision, time.monotonic()
            name = job.status if job.has_ended else "progress"
            data = JobResponse.model_validate(job).model_dump_json()
            yield f"id: {seen}\nevent: {name}\ndata: {data}\n\n"
        elif time.monotonic() - said_at >= HEARTBEAT_S:
            said_at = time.monotonic()
            yield ": still there\n\n"
        if job.has_ended or await _set_within(state.jobs.shutdown, LOOK_S):
            return
        try:
            job = await state.jobs.store.get(job.id)
        except StoreUnavailable:
            continue  # heartbeats go on until it is back
        except NotFound:
            return


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
