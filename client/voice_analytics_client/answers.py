"""What the service answers, as frozen dataclasses; docs/analysis.md says what the fields mean.

Times are seconds from the start of the recording. `raw` is the answer as it came, with whatever a
newer service added.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True)
class Emotion:
    """How a stretch of speech sounded: every label's probability, and the likeliest label, or
    `uncertain` where none is likelier than all others together."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Word:
    """One word; `word` keeps its leading space."""

    word: str
    start: float
    end: float
    probability: float
    speaker: str | None = None
    speaker_confidence: float | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of transcript by one speaker, with Whisper's own measures of doubt."""

    id: int
    start: float
    end: float
    text: str
    speaker: str | None
    emotion: Emotion | None
    words: tuple[Word, ...]
    no_speech_prob: float
    avg_logprob: float
    compression_ratio: float
    speaker_confidence: float | None = None


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker holds the floor."""

    start: float
    end: float
    speaker: str
    emotion: Emotion | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Identity:
    """Who a recognised speaker is; `profile_id` is None for a voice that came with the request."""

    name: str
    profile_id: str | None
    likeness: float


@dataclass(frozen=True)
class Speaker:
    """One speaker of a recording; `emotions` is the share of their time. `identity` is None for
    somebody unknown; `id` is then SPEAKER_00, …"""

    id: str
    talk_time: float
    turns: int
    emotions: dict[str, float]
    identity: Identity | None = None


@dataclass(frozen=True)
class Diarization:
    """How the speakers were told apart: found, asked for, and enrolled voices compared with."""

    found: int
    num_speakers: int | None
    min_speakers: int | None
    max_speakers: int | None
    known_voices: int


@dataclass(frozen=True)
class EmotionCurve:
    """How one speaker sounded over time: a value of each label at each of `times`."""

    speaker: str | None
    times: tuple[float, ...]
    scores: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class TurnLengths:
    """One speaker's turns; lengths in seconds."""

    count: int
    mean: float
    median: float
    longest: float


@dataclass(frozen=True)
class Monologue:
    """The longest turn of a recording."""

    speaker: str
    start: float
    end: float
    duration: float


@dataclass(frozen=True)
class Conversation:
    """Who held the floor for how long.

    `interruptions_by` says who interrupted whom how often, `response_time` the median seconds
    between the turn before and the speaker's own, `loudness` is in LUFS.
    """

    talk_time: dict[str, float]
    non_talk_time: float
    interruptions: int
    overlap: float
    words_per_minute: dict[str, float]
    talk_share: dict[str, float]
    interruptions_by: dict[str, dict[str, int]]
    turn_lengths: dict[str, TurnLengths]
    longest_monologue: Monologue | None
    response_time: dict[str, float]
    loudness: dict[str, float]


@dataclass(frozen=True)
class Stretch:
    """From when to when."""

    start: float
    end: float


@dataclass(frozen=True)
class Quality:
    """How far the transcript covers the speech, and what to be careful about.

    `missed` is speech without words that is worth a look, `repetition` the share of the words that
    lie in loops, `snr_db` speech over noise (None without speech), `clipped_share` of the samples.
    """

    speech_s: float
    words_outside_speech: int
    uncovered_speech_s: float
    flags: tuple[str, ...]
    missed: tuple[Stretch, ...]
    repetition: float
    snr_db: float | None
    clipped_share: float


@dataclass(frozen=True)
class Release:
    """The release of a model that answered; `bundled` for the tiny demonstration checkpoints."""

    version: str
    checkpoint: str
    bundled: bool
    note: str | None = None


@dataclass(frozen=True)
class Analysis:
    """Who spoke when, what they said, and how they sounded."""

    id: str
    transcription: str
    language: str | None
    duration: float
    emotions: tuple[str, ...]
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...]
    speakers: tuple[Speaker, ...]
    conversation: Conversation
    quality: Quality
    emotion_curves: tuple[EmotionCurve, ...]
    models: dict[str, Release]
    created_at: datetime
    cached: bool
    cache: dict[str, Literal["hit", "miss"]]
    timings_ms: dict[str, float]
    diarization: Diarization | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class AnalysisSummary:
    """What a list says of an analysis; `speakers` is how many were told apart."""

    id: str
    created_at: datetime
    duration: float
    language: str | None
    transcription: str
    speakers: int
    emotions: tuple[str, ...]
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class AnalysesPage:
    """One page of analyses, newest first; `next_cursor` is None on the last one."""

    items: tuple[AnalysisSummary, ...]
    next_cursor: str | None


JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class JobError:
    """Why a job failed."""

    error: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Webhook:
    """What has become of a job's webhook."""

    status: str
    attempts: int


@dataclass(frozen=True)
class Job:
    """A recording that is analysed while nobody waits.

    `progress` is the share of the work that is done, `stage` the first stage that isn't;
    `analysis_id` is there once it succeeded, `error` once it failed.
    """

    id: str
    status: JobStatus
    progress: float
    stage: str | None
    analysis_id: str | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    webhook: Webhook | None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class JobsPage:
    """One page of jobs, newest first; `next_cursor` is None on the last one."""

    items: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class ModelHealth:
    """One model's release, and whether it answered a moment ago."""

    version: str
    checkpoint: str
    bundled: bool
    ready: bool
    note: str | None = None


@dataclass(frozen=True)
class Health:
    """The whole service at a glance."""

    status: Literal["ok", "degraded"]
    version: str
    uptime_s: float
    triton: str
    models: dict[str, ModelHealth]
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class SpeakerTake:
    """One recording of an enrolled voice; `speech` is in seconds. The audio isn't kept."""

    id: str
    created_at: datetime
    speech: float
    version: str
    checkpoint: str
    usable: bool


@dataclass(frozen=True)
class SpeakerProfile:
    """An enrolled voice; not `usable` when another release of the speaker model heard its takes."""

    id: str
    name: str
    created_at: datetime
    usable: bool
    takes: tuple[SpeakerTake, ...]
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class SpeakersPage:
    """One page of enrolled voices, newest first; `next_cursor` is None on the last one."""

    items: tuple[SpeakerProfile, ...]
    next_cursor: str | None
