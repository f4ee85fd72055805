"""The wire's shapes: what callers get, in OpenAPI's words."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.types import Analysis, Segment


def _printable(name: str) -> str:
    name = name.strip()
    if not name or not name.isprintable():
        raise ValueError("A name has letters, and nothing that can't be printed")
    return name


SpeakerName = Annotated[str, Field(max_length=100), AfterValidator(_printable)]
"""What a person calls a speaker."""


class ErrorResponse(BaseModel):
    """The one error shape, on every route and on the WebSocket."""

    error: str = Field(description="Kind of the error", examples=["ValidationError"])
    message: str = Field(description="What went wrong", examples=["Invalid audio format"])
    details: dict[str, Any] = Field(
        default_factory=dict, examples=[{"format": "Only WAV, MP3, FLAC, … are supported"}]
    )
    request_id: str = Field(description="Names the request in the service's logs")


class _FromDomain(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class EmotionResponse(_FromDomain):
    """How a segment or a turn sounded."""

    label: str = Field(
        description="The likeliest label; `uncertain` where none is likelier than all others "
        "together",
        examples=["happy", "uncertain"],
    )
    scores: dict[str, float] = Field(description="Probability of every label; they sum to 1")


class WordResponse(_FromDomain):
    """One word with its times."""

    word: str
    start: float
    end: float
    probability: float
    speaker: str | None = None
    speaker_confidence: float | None = Field(
        default=None, description="Probability of this speaker, of those found"
    )


class SegmentResponse(_FromDomain):
    """A stretch of transcript by one speaker."""

    id: int
    start: float = Field(description="Seconds from the start of the recording")
    end: float
    text: str
    speaker: str | None = Field(examples=["SPEAKER_00"])
    speaker_confidence: float | None = Field(description="Mean of its words'")
    emotion: EmotionResponse | None
    words: list[WordResponse]
    no_speech_prob: float
    avg_logprob: float
    compression_ratio: float

    @classmethod
    def of(cls, number: int, segment: Segment) -> SegmentResponse:
        """The segment that is the recording's `number`th, from 0."""
        return cls.model_validate({**vars(segment), "id": number})


class IdentityResponse(_FromDomain):
    """Who a recognised speaker is."""

    name: str
    profile_id: str | None = Field(description="Null for a voice that came along with the request")
    likeness: float = Field(description="About 1 for this voice; recognised from 0.8 up")


class SpeakerResponse(_FromDomain):
    """One speaker of the recording."""

    id: str
    talk_time: float = Field(description="Seconds")
    turns: int
    emotions: dict[str, float] = Field(description="Share of the speaker's time by emotion")
    identity: IdentityResponse | None = Field(
        default=None, description="Null for somebody unknown; `id` is then SPEAKER_00, …"
    )


class SpeakerCountResponse(_FromDomain):
    """How the speakers were told apart. Turns overlap where two were heard at once."""

    found: int = Field(description="Speakers in `turns`")
    num_speakers: int | None = Field(description="As asked for")
    min_speakers: int | None
    max_speakers: int | None
    known_voices: int = Field(description="Enrolled voices that the speakers were compared with")


class TurnResponse(_FromDomain):
    """A stretch in which one speaker holds the floor."""

    start: float
    end: float
    speaker: str
    emotion: EmotionResponse | None = None
    confidence: float | None = Field(
        default=None, description="Probability of this speaker, of those found"
    )


class EmotionCurveResponse(_FromDomain):
    """How one speaker sounded over time, at most 240 points."""

    speaker: str | None = Field(description="Null where the speakers weren't told apart")
    times: list[float] = Field(description="Seconds from the start of the recording")
    scores: dict[str, list[float]] = Field(
        description="For every label its probability at each of `times`"
    )


class TurnLengthsResponse(_FromDomain):
    """One speaker's turns, from first sound to last; lengths in seconds."""

    count: int
    mean: float
    median: float
    longest: float


class MonologueResponse(_FromDomain):
    """The longest turn of the recording."""

    speaker: str
    start: float
    end: float
    duration: float


class StretchResponse(_FromDomain):
    """From when to when, in seconds from the start of the recording."""

    start: float
    end: float


class ConversationResponse(_FromDomain):
    """Who held the floor; the definitions stand in docs/analysis.md."""

    talk_time: dict[str, float] = Field(description="Seconds by speaker")
    non_talk_time: float = Field(description="Seconds in which nobody held the floor")
    interruptions: int
    overlap: float = Field(description="Seconds in which at least two held it")
    words_per_minute: dict[str, float]
    talk_share: dict[str, float] = Field(description="Of all speakers' talk time; they sum to 1")
    interruptions_by: dict[str, dict[str, int]] = Field(
        description="Who interrupted, whom, how often",
        examples=[{"SPEAKER_01": {"SPEAKER_00": 2}}],
    )
    turn_lengths: dict[str, TurnLengthsResponse]
    longest_monologue: MonologueResponse | None
    response_time: dict[str, float] = Field(
        description="Median seconds between the turn before and the speaker's own; below 0 where "
        "they begin before the other has ended"
    )
    loudness: dict[str, float] = Field(description="LUFS by speaker, after ITU-R BS.1770-4")


class QualityResponse(_FromDomain):
    """How far the transcript covers the speech; flags are listed in docs/analysis.md."""

    speech_s: float
    words_outside_speech: int
    uncovered_speech_s: float
    flags: list[str]
    missed: list[StretchResponse] = Field(description="Speech without words that is worth a look")
    repetition: float = Field(description="Share of the words that lie in loops, 0 to 1")
    snr_db: float | None = Field(description="Speech over noise; null without speech")
    clipped_share: float = Field(description="Of the samples")


class ModelResponse(_FromDomain):
    """The release of a model that answered."""

    version: str
    checkpoint: str
    bundled: bool = Field(description="True for the tiny demonstration checkpoints")
    note: str | None = None


class AudioResponse(_FromDomain):
    """Audio analysis response model."""

    id: str
    transcription: str = Field(description="Transcribed text", examples=["four seven two"])
    language: str | None = Field(examples=["en"])
    duration: float = Field(description="Seconds")
    emotions: list[str] = Field(
        description="Detected emotions, most present first", examples=[["happy", "neutral"]]
    )
    segments: list[SegmentResponse]
    turns: list[TurnResponse]
    emotion_curves: list[EmotionCurveResponse]
    speakers: list[SpeakerResponse]
    diarization: SpeakerCountResponse | None = Field(
        default=None, description="Null where it wasn't asked for"
    )
    conversation: ConversationResponse
    quality: QualityResponse
    models: dict[str, ModelResponse]
    created_at: datetime
    cached: bool = Field(description="Every stage that was needed came from the cache")
    cache: dict[str, Literal["hit", "miss"]] = Field(description="By stage")
    timings_ms: dict[str, float]


class AnalysisSummaryResponse(_FromDomain):
    """What a list says of an analysis."""

    id: str
    created_at: datetime
    duration: float = Field(description="Seconds")
    language: str | None
    transcription: str
    speakers: int = Field(description="How many were told apart")
    emotions: list[str]


class AnalysesPage(_FromDomain):
    """One page of analyses, newest first."""

    items: list[AnalysisSummaryResponse]
    next_cursor: str | None = Field(description="Gives the next page; null on the last one")


BUNDLED_NOTE = (
    "Bundled demonstration checkpoint: it knows English digits, a few acted emotions and little "
    "else. For real recordings: ./dev.sh export all --checkpoint hub"
)


def to_response(analysis: Analysis) -> AudioResponse:
    """The domain's answer in the wire's shape."""
    models = {
        name: ModelResponse(
            version=release.version,
            checkpoint=release.checkpoint,
            bundled=release.bundled,
            note=BUNDLED_NOTE if release.bundled else None,
        )
        for name, release in analysis.models.items()
    }
    segments = [SegmentResponse.of(number, s) for number, s in enumerate(analysis.segments)]
    return AudioResponse.model_validate(
        {
            **vars(analysis),
            "transcription": analysis.transcription,
            "cached": analysis.cached,
            "segments": segments,
            "models": models,
        }
    )
