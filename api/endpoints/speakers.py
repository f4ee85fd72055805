"""/speakers: voices that analyses shall know by name; enrolled, listed, renamed, deleted."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.endpoints.context import AppState, app_state, until_disconnect
from api.errors import InvalidAudio
from api.schemas import ErrorResponse, SpeakerName
from api.services import speaker_embedding
from api.speaker_profiles import SpeakerProfile, SpeakerTake

router = APIRouter(prefix="/speakers", tags=["speakers"])

MOST_FILES = 10
"""In one request."""

_TAKEN_NAMES = re.compile(r"unknown|speaker_\d+", re.IGNORECASE)


def _not_taken(name: str) -> str:
    if _TAKEN_NAMES.fullmatch(name):
        raise ValueError("This is what speakers without a name are called")
    return name


Name = Annotated[SpeakerName, AfterValidator(_not_taken)]


class TakesForm(BaseModel):
    """Recordings in which nobody else speaks; an unknown field is refused, never ignored."""

    model_config = ConfigDict(extra="forbid")

    file: list[UploadFile] = Field(
        min_length=1,
        max_length=MOST_FILES,
        description="One recording or several, 3 s of speech each",
    )


class EnrolForm(TakesForm):
    """A voice and whose it is."""

    name: Name = Field(description="Goes into analyses where SPEAKER_00 would")


class Rename(BaseModel):
    """The new name."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class ListQuery(BaseModel):
    """Which page of the list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=200, description="`next_cursor` of a page")


class TakeResponse(BaseModel):
    """One recording of the voice. The audio isn't kept."""

    id: str
    created_at: datetime
    speech: float = Field(description="Seconds of speech that were heard")
    version: str = Field(description="Release of the speaker model that heard it")
    checkpoint: str
    usable: bool = Field(description="The model that serves now is that release")


class SpeakerProfileResponse(BaseModel):
    """An enrolled voice."""

    id: str
    name: str
    created_at: datetime
    usable: bool = Field(
        description="Analyses recognise it; false when all takes were heard by another release of "
        "the speaker model: enrol the voice again"
    )
    takes: list[TakeResponse]


class SpeakersPage(BaseModel):
    """One page of voices, newest first."""

    items: list[SpeakerProfileResponse]
    next_cursor: str | None = Field(description="Gives the next page; null on the last one")


def _answers(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    away = {503: "Triton or the database is away; Retry-After says when to come back"}
    return {
        status: {"model": ErrorResponse, "description": description}
        for status, description in {**descriptions, **away}.items()
    }


_NONE = {404: "There is no speaker by that id"}
_TAKEN = {409: "Another speaker has this name"}
_HEARING = {
    400: "Not audio, or empty",
    413: "Too long or too large",
    415: "A format that can't be decoded",
    422: "A field is wrong, or the recording holds too little speech or more than one voice",
    429: "Too many analyses in flight; Retry-After says when to come back",
    504: "Past the deadline",
}


@router.post(
    "", status_code=201, summary="Enrol a voice", responses=_answers({**_HEARING, **_TAKEN})
)
async def enrol(
    request: Request, form: Annotated[EnrolForm, Form(media_type="multipart/form-data")]
) -> SpeakerProfileResponse:
    state = app_state(request)
    takes = await _hear(request, form.file)
    return _response(state, await state.profiles.create(form.name, takes))


@router.get(
    "", summary="List voices, newest first", responses=_answers({422: "The cursor is wrong"})
)
async def list_speakers(request: Request, query: Annotated[ListQuery, Query()]) -> SpeakersPage:
    state = app_state(request)
    page = await state.profiles.list(limit=query.limit, cursor=query.cursor)
    items = [_response(state, profile) for profile in page.items]
    return SpeakersPage(items=items, next_cursor=page.next_cursor)


@router.get("/{speaker_id}", summary="One voice", responses=_answers(_NONE))
async def get_speaker(request: Request, speaker_id: str) -> SpeakerProfileResponse:
    state = app_state(request)
    return _response(state, await state.profiles.get(speaker_id))


@router.post(
    "/{speaker_id}/takes",
    status_code=201,
    summary="Add recordings of a voice",
    responses=_answers({**_HEARING, **_NONE, 409: "The voice has too many takes"}),
)
async def add_takes(
    request: Request,
    speaker_id: str,
    form: Annotated[TakesForm, Form(media_type="multipart/form-data")],
) -> SpeakerProfileResponse:
    state = app_state(request)
    await state.profiles.get(speaker_id)
    takes = await _hear(request, form.file)
    return _response(state, await state.profiles.add(speaker_id, takes))


@router.patch("/{speaker_id}", summary="Rename a voice", responses=_answers({**_NONE, **_TAKEN}))
async def rename_speaker(
    request: Request, speaker_id: str, change: Rename
) -> SpeakerProfileResponse:
    state = app_state(request)
    return _response(state, await state.profiles.rename(speaker_id, change.name))


@router.delete(
    "/{speaker_id}",
    status_code=204,
    summary="Forget a voice; analyses made before keep its name",
    responses=_answers(_NONE),
)
async def delete_speaker(request: Request, speaker_id: str) -> None:
    await app_state(request).profiles.delete(speaker_id)


async def _hear(request: Request, files: list[UploadFile]) -> list[SpeakerTake]:
    service = app_state(request).service
    takes = []
    for file in files:
        data = await file.read()
        if not data:
            raise InvalidAudio("The upload is empty")
        takes.append(await until_disconnect(request, service.hear_voice(data)))
    return takes


def _response(state: AppState, profile: SpeakerProfile) -> SpeakerProfileResponse:
    fingerprint = state.serving.stable.fingerprints[speaker_embedding.SPEC.name]
    return SpeakerProfileResponse(
        id=profile.id,
        name=profile.name,
        created_at=profile.created_at,
        usable=profile.is_usable(fingerprint),
        takes=[
            TakeResponse(
                id=take.id,
                created_at=take.created_at,
                speech=take.speech_s,
                version=take.version,
                checkpoint=take.checkpoint,
                usable=take.fingerprint == fingerprint,
            )
            for take in profile.takes
        ],
    )
