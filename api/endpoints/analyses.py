"""/audio/analyses: analyses that were made, to list, look at, export and delete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.answers import to_json
from api.endpoints.context import app_state
from api.formats import FORMATS, REPORT_POLICY
from api.schemas import AnalysesPage, AudioResponse, ErrorResponse, SpeakerName
from api.store.analyses import AnalysisFilter
from api.types import Analysis

router = APIRouter(prefix="/audio/analyses", tags=["analyses"])

MAX_PAGE = 100


def _in_utc(moment: datetime) -> datetime:
    """A moment without a zone is taken as UTC."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError("The moment lies outside the years 1 to 9999") from error


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class ListQuery(BaseModel):
    """Filters of the list; all that are given must hold. An unknown one is refused."""

    model_config = ConfigDict(extra="forbid")

    created_after: Moment | None = Field(None, description="Earliest moment, ISO 8601, inclusive")
    created_before: Moment | None = Field(None, description="Latest moment, exclusive")
    text: str | None = Field(
        None, min_length=1, max_length=500, description="In the transcription, in any case"
    )
    speakers: int | None = Field(None, ge=0, le=1000, description="Exactly so many speakers")
    min_speakers: int | None = Field(None, ge=0, le=1000)
    max_speakers: int | None = Field(None, ge=0, le=1000)
    emotion: str | None = Field(None, max_length=100, description="Heard in at least one segment")
    language: str | None = Field(None, max_length=100, description="Whisper's code: en, de, …")
    limit: int = Field(20, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of a page")

    def wanted(self) -> AnalysisFilter:
        low, high = self.min_speakers, self.max_speakers
        if self.speakers is not None:
            low = max(self.speakers, low or 0)
            high = self.speakers if high is None else min(self.speakers, high)
        return AnalysisFilter(
            created_after=self.created_after,
            created_before=self.created_before,
            text=self.text,
            min_speakers=low,
            max_speakers=high,
            emotion=self.emotion,
            language=self.language,
        )


class SpeakerNames(BaseModel):
    """What an analysis' speakers shall be called."""

    model_config = ConfigDict(extra="forbid")

    speakers: dict[str, SpeakerName] = Field(
        min_length=1,
        max_length=1000,
        description="New names by the present ones; whoever isn't mentioned keeps theirs",
        examples=[{"SPEAKER_00": "Anna"}],
    )


class ExportQuery(BaseModel):
    """The format of an export."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["srt", "vtt", "tsv", "txt", "rttm", "html", "json"]


_AWAY: dict[int | str, dict[str, Any]] = {
    503: {"model": ErrorResponse, "description": "The database is away, locked or full"}
}
_ONE: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorResponse, "description": "There is no analysis by that id"},
    **_AWAY,
}


@router.get(
    "",
    summary="List analyses, newest first",
    responses={422: {"model": ErrorResponse, "description": "A filter is wrong"}, **_AWAY},
)
async def list_analyses(request: Request, query: Annotated[ListQuery, Query()]) -> AnalysesPage:
    page = await app_state(request).store.list(
        query.wanted(), limit=query.limit, cursor=query.cursor
    )
    return AnalysesPage.model_validate(page)


@router.get(
    "/{analysis_id}",
    response_model=AudioResponse,
    summary="One analysis, as it was answered",
    responses=_ONE,
)
async def get_analysis(request: Request, analysis_id: str) -> Response:
    analysis = await app_state(request).store.get(analysis_id)
    content = await asyncio.to_thread(to_json, analysis)
    return Response(content, media_type="application/json")


@router.patch(
    "/{analysis_id}",
    response_model=AudioResponse,
    summary="Call an analysis' speakers by other names",
    responses={
        422: {
            "model": ErrorResponse,
            "description": "Nobody goes by a present name, or two speakers would share a new one",
        },
        **_ONE,
    },
)
async def rename_speakers(request: Request, analysis_id: str, body: SpeakerNames) -> Response:
    analysis = await app_state(request).store.rename_speakers(analysis_id, body.speakers)
    content = await asyncio.to_thread(to_json, analysis)
    return Response(content, media_type="application/json")


@router.delete("/{analysis_id}", status_code=204, summary="Delete an analysis", responses=_ONE)
async def delete_analysis(request: Request, analysis_id: str) -> None:
    await app_state(request).store.delete(analysis_id)


@router.get(
    "/{analysis_id}/export",
    summary="One analysis as a file: subtitles, a table, a script, RTTM, a report, JSON",
    response_class=Response,
    responses={422: {"model": ErrorResponse, "description": "No such format"}, **_ONE},
)
async def export_analysis(
    request: Request, analysis_id: str, query: Annotated[ExportQuery, Query()]
) -> Response:
    analysis = await app_state(request).store.get(analysis_id)
    render: Callable[[Analysis], str | bytes] = to_json
    media_type = "application/json"
    if query.format != "json":
        render, media_type = FORMATS["text" if query.format == "txt" else query.format]
    content = await asyncio.to_thread(render, analysis)
    headers = {
        "Content-Disposition": f'attachment; filename="{analysis.id}.{query.format}"',
        "Content-Security-Policy": REPORT_POLICY,
    }
    return Response(content, media_type=media_type, headers=headers)
