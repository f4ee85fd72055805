"""The protocol of WS /audio/stream: what clients send and what they get; docs/streaming.md."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api import audio
from api.errors import InvalidMessage, InvalidOption
from api.schemas import AudioResponse, EmotionResponse, WordResponse
from api.streaming.decoder import SAMPLE_BYTES, Encoding
from api.types import SAMPLE_RATE_HZ, AnalysisOptions

SUBPROTOCOL = "voice-analytics"
"""What the server chooses among the subprotocols that a client offers."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConfigMessage(_Message):
    """Begins a stream; an unknown field is refused, never ignored."""

    type: Literal["config"]
    encoding: Encoding = "s16le"
    sample_rate: int = Field(SAMPLE_RATE_HZ, ge=audio.MIN_RATE_HZ, le=audio.MAX_RATE_HZ)
    language: str | None = None
    diarize: bool = True
    identify_speakers: bool = True
    emotions: bool = True
    partials: bool = True

    def options(self) -> AnalysisOptions:
        """The analysis that the summary will be."""
        return AnalysisOptions(
            language=self.language or None,
            diarize=self.diarize,
            identify_speakers=self.identify_speakers,
            emotions=self.emotions,
        )

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample, the unit that is never split; 1 for containers."""
        return SAMPLE_BYTES.get(self.encoding, 1)


class ResumeMessage(_Message):
    """Takes up a stream whose connection was lost."""

    type: Literal["resume"]
    session_id: str = Field(max_length=200)
    last_seq: int | None = Field(None, ge=0)


class EndMessage(_Message):
    """No more audio will come."""

    type: Literal["end"]


ClientMessage = ConfigMessage | ResumeMessage | EndMessage
_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)


def parse(text: str) -> ClientMessage:
    """A client's text message.

    Raises:
        InvalidMessage: not a JSON object, or of no known type.
        InvalidOption: a field is wrong; the details name it.
    """
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("A text message must be a JSON object") from error
    if not isinstance(content, dict):
        raise InvalidMessage("A text message must be a JSON object")
    kind = content.get("type")
    if kind not in ("config", "resume", "end"):
        raise InvalidMessage(
            "Unknown message type", type="config, resume or end", received=str(kind)[:50]
        )
    try:
        return _CLIENT.validate_python(content)
    except ValidationError as error:
        details = {".".join(map(str, p["loc"][1:])): p["msg"] for p in error.errors()}
        raise InvalidOption(f"The {kind} message has invalid fields", **details) from error


class ReadyEvent(BaseModel):
    """The stream may begin."""

    type: Literal["ready"] = "ready"
    session_id: str


class ProgressEvent(BaseModel):
    """How much was received: in samples of the client's own rate, or for containers in decoded
    samples at 16 kHz; in bytes of the stream for all."""

    type: Literal["ack", "resumed"]
    received_samples: int
    received_bytes: int


class ResumedEvent(ProgressEvent):
    """The stream goes on behind what was received."""

    type: Literal["resumed"] = "resumed"
    ended: bool = Field(description="Whether `end` was received")


class PartialEvent(BaseModel):
    """The utterance under way; `text` begins with `stable`, which later partials keep."""

    type: Literal["partial"] = "partial"
    text: str
    stable: str
    start: float
    end: float


class FinalEvent(BaseModel):
    """One utterance, for good."""

    type: Literal["final"] = "final"
    seq: int = 0
    text: str
    words: list[WordResponse]
    start: float
    end: float
    speaker: str | None
    emotion: EmotionResponse | None
    language: str | None


class SummaryEvent(AudioResponse):
    """The whole stream, analysed as a file is."""

    type: Literal["summary"] = "summary"
    seq: int = 0


def error_event(
    kind: str, message: str, details: dict[str, Any], request_id: str
) -> dict[str, Any]:
    """The one error shape as an event."""
    return {
        "type": "error",
        "error": kind,
        "message": message,
        "details": details,
        "request_id": request_id,
    }
