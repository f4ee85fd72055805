"""POST /audio/analyze: one recording in, who spoke when, what and how out."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from api.answers import to_json
from api.endpoints.context import app_state, until_disconnect
from api.errors import InvalidAudio, InvalidOption
from api.formats import FORMATS, REPORT_POLICY
from api.schemas import AudioResponse, ErrorResponse
from api.types import AnalysisOptions, Task

router = APIRouter(prefix="/audio", tags=["audio"])

MAX_SPEAKERS = 32
"""More voices than this in one recording can't be told apart by clustering."""

MAX_BEAM_SIZE = 10
"""What the `whisper` model takes at most; openai-whisper's command takes 5."""

MAX_PROMPT = 4096
"""Characters; Whisper itself reads the last 223 tokens of a prompt."""


class RecordingForm(BaseModel):
    """A recording and what to find out about it; an unknown field is refused, never ignored."""

    model_config = ConfigDict(extra="forbid")

    file: UploadFile = Field(description="Audio file to analyze")
    language: str | None = Field(
        None, description="Language spoken, as Whisper's code (en, de, …); absent = detect it"
    )
    task: Task = Field("transcribe", description="`translate` writes English whatever is spoken")
    diarize: bool = Field(True, description="Tell the speakers apart")
    num_speakers: int | None = Field(None, ge=1, le=MAX_SPEAKERS)
    min_speakers: int | None = Field(None, ge=1, le=MAX_SPEAKERS)
    max_speakers: int | None = Field(None, ge=1, le=MAX_SPEAKERS)
    identify_speakers: bool = Field(
        True, description="Give speakers whose voices were enrolled (/speakers) their names"
    )
    emotions: bool = Field(True, description="Hear the emotions")
    word_timestamps: bool = Field(True, description="Give each word its times")
    prompt: str | None = Field(
        None, max_length=MAX_PROMPT, description="Text that came before, or shows the spelling"
    )
    beam_size: int | None = Field(
        None,
        ge=1,
        le=MAX_BEAM_SIZE,
        description="Texts that Whisper follows at once: more are slower, and err a little less",
    )

    def options(self) -> AnalysisOptions:
        """The analysis that the form asks for.

        Raises:
            InvalidOption: the speaker counts contradict each other.
        """
        low, exact, high = self.min_speakers, self.num_speakers, self.max_speakers
        ordered = [count for count in (low, exact, high) if count is not None]
        if ordered != sorted(ordered):
            raise InvalidOption(
                "The speaker counts contradict each other",
                min_speakers=low,
                num_speakers=exact,
                max_speakers=high,
            )
        return AnalysisOptions(
            language=self.language or None,
            **self.model_dump(include={f.name for f in fields(AnalysisOptions)} - {"language"}),
        )


class AnalyzeForm(RecordingForm):
    """And in which format to answer."""

    response_format: Literal["json", "text", "srt", "vtt", "tsv", "rttm", "html"] = "json"


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "Not audio, or empty",
        413: "Too long or too large",
        415: "A format that can't be decoded",
        422: "An option is wrong",
        429: "Too many analyses in flight; Retry-After says when to come back",
        503: "Triton is away; Retry-After says when to come back",
        504: "Past the deadline",
    }.items()
}


@router.post(
    "/analyze",
    response_model=AudioResponse,
    summary="Analyze audio file",
    description="Process audio file and return analysis results",
    responses=_ERRORS,
)
async def analyze_audio(
    request: Request, form: Annotated[AnalyzeForm, Form(media_type="multipart/form-data")]
) -> Response:
    state = app_state(request)
    options = form.options()
    data = await form.file.read()
    if not data:
        raise InvalidAudio("The upload is empty")
    analysis = await until_disconnect(request, state.service.analyze(data, options))
    if form.response_format == "json":
        content = await asyncio.to_thread(to_json, analysis)
        return Response(content, media_type="application/json")
    render, media_type = FORMATS[form.response_format]
    headers = {"Content-Security-Policy": REPORT_POLICY}
    text = await asyncio.to_thread(render, analysis)
    return Response(text, media_type=media_type, headers=headers)
