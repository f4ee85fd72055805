"""What callers may ask, field by field; whatever isn't here is refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.openai.errors import InvalidParameter
from api.types import AnalysisOptions

R = TypeVar("R", bound="SpeechRequest")

MAX_KNOWN_SPEAKERS = 4
"""As many as OpenAI takes."""

LISTS = frozenset(
    {
        "include",
        "known_speaker_names",
        "known_speaker_references",
        "timestamp_granularities",
    }
)

_DEFAULT_VAD = {"type": "server_vad"}
_VAD_KEY = "chunking_strategy["

_NULLABLE = frozenset({"chunking_strategy", "stream"})
"""OpenAI's SDK sends the empty string for their None."""

_STRANGER = "SPEAKER_"
"""How strangers' names begin before they become letters."""


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["model"])
    code: str | None = Field(examples=["model_not_found"])


class OpenAIError(BaseModel):
    """OpenAI's error shape, on every route below /v1."""

    error: OpenAIErrorDetail


class ServerVad(BaseModel):
    """How speech is told from silence; what is absent keeps the detector's own value."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["server_vad"]
    threshold: float | None = Field(None, gt=0, lt=1, description="Probability that begins speech")
    prefix_padding_ms: int | None = Field(None, ge=0, le=5000, description="Put before speech")
    silence_duration_ms: int | None = Field(
        None, ge=0, le=5000, description="Silence that ends speech"
    )


class SpeechRequest(BaseModel):
    """What both routes take."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="One of GET /v1/models", examples=["whisper-1"])
    prompt: str | None = Field(None, description="Text that came before, or shows the spelling")
    temperature: float = Field(
        0, ge=0, le=1, description="0: the likeliest words, drawn only where a text looks wrong"
    )


class TranslationRequest(SpeechRequest):
    """Fields of POST /v1/audio/translations."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"

    def options(self) -> AnalysisOptions:
        """The analysis that the request asks for."""
        return AnalysisOptions(
            task="translate",
            diarize=False,
            emotions=False,
            word_timestamps=False,
            prompt=self.prompt,
            temperature=self.temperature,
        )


class TranscriptionRequest(SpeechRequest):
    """Fields of POST /v1/audio/transcriptions; lists are sent as `name[]`."""

    language: str | None = Field(None, description="Language spoken, such as en", examples=["en"])
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] | None = Field(
        None, min_length=1, description="With verbose_json only; default: segment"
    )
    include: list[Literal["logprobs"]] = Field([], description="With json only")
    stream: bool = Field(False, description="Server-sent events; json, text, diarized_json only")
    chunking_strategy: Literal["auto"] | ServerVad = "auto"
    known_speaker_names: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        [], max_length=MAX_KNOWN_SPEAKERS, description="With diarized_json only"
    )
    known_speaker_references: list[str] = Field(
        [], max_length=MAX_KNOWN_SPEAKERS, description="Data URLs, 2 to 10 s of audio each"
    )

    @model_validator(mode="after")
    def _fit(self) -> TranscriptionRequest:
        """Refuse what wouldn't have an effect on the answer."""
        form = self.response_format
        for name, given, needed in (
            ("timestamp_granularities", self.timestamp_granularities, {"verbose_json"}),
            ("include", self.include, {"json"}),
            ("stream", self.stream, {"json", "text", "diarized_json"}),
            ("known_speaker_names", self.known_speaker_names, {"diarized_json"}),
            ("known_speaker_references", self.known_speaker_references, {"diarized_json"}),
        ):
            if given and form not in needed:
                wanted = " or ".join(sorted(needed))
                raise InvalidParameter(f"{name} needs response_format {wanted}, not {form}", name)
        if len(self.known_speaker_names) != len(self.known_speaker_references):
            raise InvalidParameter(
                "Each known speaker needs one name and one reference", "known_speaker_references"
            )
        if len(set(self.known_speaker_names)) < len(self.known_speaker_names):
            raise InvalidParameter("Two known speakers have one name", "known_speaker_names")
        if any(name.startswith(_STRANGER) for name in self.known_speaker_names):
            raise InvalidParameter(f"{_STRANGER}… is kept for strangers", "known_speaker_names")
        return self

    @property
    def granularities(self) -> frozenset[str]:
        """Which times `verbose_json` carries."""
        return frozenset(self.timestamp_granularities or ["segment"])

    def options(self) -> AnalysisOptions:
        """The analysis that the request asks for."""
        diarize = self.response_format == "diarized_json"
        vad = self.chunking_strategy
        tuned = vad if isinstance(vad, ServerVad) else ServerVad.model_validate(_DEFAULT_VAD)
        return AnalysisOptions(
            language=self.language,
            diarize=diarize,
            emotions=False,
            word_timestamps=diarize or "word" in self.granularities,
            prompt=self.prompt,
            temperature=self.temperature,
            logprobs="logprobs" in self.include,
            speech_threshold=tuned.threshold,
            min_silence_s=_seconds(tuned.silence_duration_ms),
            pad_start_s=_seconds(tuned.prefix_padding_ms),
        )


def parse(kind: type[R], fields: Sequence[tuple[str, str]]) -> R:
    """A form's text fields as a request.

    Raises:
        InvalidParameter: a field is missing, unknown, doubled, out of range, or has no effect.
    """
    try:
        return kind.model_validate(_unflatten(fields))
    except ValidationError as error:
        raise _refusal(error) from error


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _unflatten(fields: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Fields by name: `name[]` gathers a list, `chunking_strategy[key]` an object, as may JSON."""
    found: dict[str, Any] = {}
    vad: dict[str, Any] = {}
    for raw, value in fields:
        name = raw.removesuffix("[]")
        if name in LISTS:
            found.setdefault(name, []).append(value)
        elif raw in _NULLABLE and not value:
            continue
        elif raw.startswith(_VAD_KEY) and raw.endswith("]"):
            vad[raw[len(_VAD_KEY) : -1]] = value
        elif raw in found:
            raise InvalidParameter(f"'{raw}' is given twice", raw)
        else:
            found[raw] = _strategy(value) if raw == "chunking_strategy" else value
    if vad and "chunking_strategy" in found:
        raise InvalidParameter("'chunking_strategy' is given twice", "chunking_strategy")
    return found | ({"chunking_strategy": vad} if vad else {})


def _strategy(value: str) -> Any:
    if not value.startswith("{"):
        return value
    try:
        return orjson.loads(value)
    except ValueError as error:
        raise InvalidParameter("It isn't valid JSON", "chunking_strategy") from error


def _refusal(error: ValidationError) -> InvalidParameter:
    problem = max(error.errors(include_url=False), key=lambda found: len(found["loc"]))
    param = str(problem["loc"][0]).removesuffix("[]")
    if problem["type"] == "missing":
        return InvalidParameter(
            f"Missing required parameter: '{param}'", param, "missing_required_parameter"
        )
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return InvalidParameter(
            f"Parameter '{param}' isn't supported here", param, "unsupported_parameter"
        )
    named = param if len(problem["loc"]) == 1 else f"{param}.{problem['loc'][-1]}"
    return InvalidParameter(f"Invalid value for '{named}': {problem['msg']}", param)
