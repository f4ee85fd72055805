"""A job's shape on the wire: in answers, in events, in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.store.jobs import Status


class _FromDomain(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class JobError(BaseModel):
    """Why a job failed, in the shape of every error."""

    error: str = Field(examples=["ValidationError"])
    message: str
    details: dict[str, Any] = Field(default_factory=dict)


class WebhookState(_FromDomain):
    """What has become of the webhook."""

    status: str = Field(description="waiting, due, enqueued, delivered or failed")
    attempts: int


class JobResponse(_FromDomain):
    """A recording that is analysed while nobody waits."""

    id: str
    status: Status
    progress: float = Field(description="Share of the work that is done, in [0, 1]; never falls")
    stage: str | None = Field(
        description="The first stage that isn't done: decode, vad, whisper, speaker_embedding, "
        "clustering, overlap, emotion, assembly, store"
    )
    analysis_id: str | None = Field(description="Of a job that succeeded")
    error: JobError | None = Field(description="Of a job that failed")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    webhook: WebhookState | None


class JobsPageResponse(_FromDomain):
    """One page of the list."""

    items: list[JobResponse]
    next_cursor: str | None = Field(description="For the next page; null on the last one")
