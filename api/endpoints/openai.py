"""/v1: OpenAI's transcriptions, translations and models, so that its SDKs work unchanged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import orjson
import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from api.endpoints.context import AppState, app_state, until_disconnect
from api.errors import InvalidAudio, InvalidOption, ValidationError, VoiceAnalyticsError
from api.metrics import Metrics
from api.middleware import ClientGone, kind, status_code
from api.openai import errors, events, known_speakers, shaping
from api.openai.catalog import Catalog
from api.openai.errors import InvalidParameter
from api.openai.schemas import (
    LISTS,
    OpenAIError,
    SpeechRequest,
    TranscriptionRequest,
    TranslationRequest,
    parse,
)
from api.types import Analysis, VoiceReference

router = APIRouter(prefix="/v1", tags=["openai"])

R = TypeVar("R", bound=SpeechRequest)
T = TypeVar("T")

log = structlog.get_logger(__name__)

MAX_FIELDS = 64
MAX_FIELD_BYTES = 8 * 2**20
"""Room for 10 s of a known speaker at any common rate and width, as base64."""


def _form_of(request: type[BaseModel]) -> dict[str, Any]:
    """The body in the OpenAPI document: the request's fields, lists by their names on the wire."""
    schema = request.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    fields = schema["properties"]
    vad = fields.get("chunking_strategy")
    if vad is not None:
        vad.pop("anyOf", None)
        vad |= {"type": "string", "description": "`auto`, or a `server_vad` object as JSON"}
    schema["properties"] = {
        "file": {"type": "string", "format": "binary", "description": "The recording"}
    } | {f"{name}[]" if name in LISTS else name: field for name, field in fields.items()}
    schema["required"] = ["file", "model"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def _answers(*further: str) -> dict[str, Any]:
    """Media types of an answer: `response_format` and `stream` choose."""
    kinds = ("application/json", "text/plain", *further)
    return {"description": "The text", "content": {kind: {} for kind in kinds}}


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIError, "description": description}
    for status, description in {
        400: "Not audio, or a field that is missing, wrong or not supported",
        401: "No API key, or one that isn't known",
        404: "No such model",
        413: "Too long or too large",
        429: "Too many analyses in flight; Retry-After says when to come back",
        500: "Something went wrong here",
        503: "A part of the service is away; Retry-After says when to come back",
        504: "Past the deadline",
    }.items()
}


@router.post(
    "/audio/transcriptions",
    summary="Create transcription (OpenAI's contract)",
    openapi_extra=_form_of(TranscriptionRequest),
    responses={**_ERRORS, 200: _answers("text/event-stream")},
)
async def transcriptions(request: Request) -> Response:
    state = app_state(request)
    data, wanted = await _read(request, TranscriptionRequest)
    _catalog(request).check(wanted.model, wanted.language)
    references = await _references(state, wanted)
    analyze = partial(state.service.analyze, data, wanted.options(), references=references)
    if wanted.stream:
        return await _stream(request, analyze, wanted)
    return _answer(shaping.transcription(await _awaited(request, analyze()), wanted))


@router.post(
    "/audio/translations",
    summary="Create translation (OpenAI's contract)",
    openapi_extra=_form_of(TranslationRequest),
    responses={**_ERRORS, 200: _answers()},
)
async def translations(request: Request) -> Response:
    state = app_state(request)
    data, wanted = await _read(request, TranslationRequest)
    _catalog(request).check(wanted.model)
    analysis = await _awaited(request, state.service.analyze(data, wanted.options()))
    return _answer(shaping.translation(analysis, wanted))


@router.get("/models", summary="List models (OpenAI's contract)")
async def models(request: Request) -> dict[str, Any]:
    catalog = _catalog(request)
    return {"object": "list", "data": [catalog.describe(name) for name in catalog.names]}


@router.get(
    "/models/{model:path}",
    summary="Retrieve model (OpenAI's contract)",
    responses={404: _ERRORS[404]},
)
async def model(request: Request, model: str) -> dict[str, Any]:
    return _catalog(request).describe(model)


def _catalog(request: Request) -> Catalog:
    return Catalog.of(app_state(request).serving.stable.manifests["whisper"])


async def _read(request: Request, expected: type[R]) -> tuple[bytes, R]:
    """The upload and the fields around it.

    Raises:
        InvalidParameter: one of them is missing or wrong.
        InvalidAudio: the upload is empty.
        ClientGone: the caller hung up.
    """
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except ClientDisconnect as error:
        raise ClientGone from error
    try:
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        wanted = parse(expected, [field for field in fields if field[0] != "file"])
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidParameter(
                "Missing required parameter: 'file'", "file", "missing_required_parameter"
            )
        data = await upload.read()
    finally:
        await form.close()
    if not data:
        raise InvalidAudio("The upload is empty", param="file")
    return data, wanted


async def _references(state: AppState, wanted: TranscriptionRequest) -> list[VoiceReference]:
    found = []
    named = zip(wanted.known_speaker_names, wanted.known_speaker_references, strict=True)
    for name, data_url in named:
        try:
            waveform = await state.service.decode(
                known_speakers.audio_of(data_url), max_duration_s=known_speakers.MAX_REFERENCE_S
            )
        except InvalidParameter:
            raise
        except ValidationError as error:
            raise InvalidParameter(
                f"The reference of '{name}' can't be used: {error.message}", known_speakers.PARAM
            ) from error
        found.append(known_speakers.reference(name, waveform))
    return found


async def _awaited(request: Request, work: Awaitable[T]) -> T:
    """The result, unless the caller hangs up.

    Raises:
        InvalidParameter: nobody speaks in a known speaker's reference.
        ClientGone: the caller hung up.
    """

    async def awaited() -> T:
        return await work

    try:
        return await until_disconnect(request, awaited())
    except InvalidOption as error:
        speaker = error.details.get("speaker")
        if speaker is None:
            raise
        raise InvalidParameter(f"{error.message}: '{speaker}'", known_speakers.PARAM) from error


def _answer(content: shaping.Answer) -> Response:
    return PlainTextResponse(content) if isinstance(content, str) else JSONResponse(content)


async def _stream(
    request: Request,
    analyze: Callable[..., Coroutine[Any, Any, Analysis]],
    wanted: TranscriptionRequest,
) -> Response:
    """An event stream; what goes wrong before the first event is answered as ever."""
    told = events.transcribed(lambda on_segments: analyze(on_segments=on_segments), wanted)
    return EventStream(await _awaited(request, anext(told)), told, app_state(request).metrics)


class EventStream(StreamingResponse):
    """Server-sent events; the analysis ends with the connection."""

    def __init__(
        self,
        first: events.Event,
        rest: AsyncGenerator[events.Event, None],
        metrics: Metrics,
    ) -> None:
        self._rest = rest
        self._metrics = metrics
        super().__init__(
            self._lines(first),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest):
            await super().__call__(scope, receive, send)

    async def _lines(self, first: events.Event) -> AsyncGenerator[bytes, None]:
        yield _line(first)
        try:
            async for event in self._rest:
                yield _line(event)
        except VoiceAnalyticsError as error:
            self._metrics.errors.labels(kind(error)).inc()
            log.warning("stream_failed", kind=kind(error), reason=error.message)
            yield _line(errors.shape(status_code(error), error.message, error.details)[1])


def _line(event: events.Event) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"
