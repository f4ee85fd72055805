"""Domain types that travel along a recording's path; free of HTTP, Triton and pydantic.

All times are seconds from the start of the recording, as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from api.sample_file import SampleFile

SAMPLE_RATE_HZ = 16_000
"""Rate of every model's input: Whisper, wav2vec2-base and ECAPA-TDNN are all trained at 16 kHz."""

BLOCK_SAMPLES = 2**20
"""65 s and 4 MB: what a pass over a whole recording holds at once."""

Task = Literal["transcribe", "translate"]

OnProgress = Callable[[str, float], None]
"""Hears of a stage by name, from any thread, and which share of it is done, in [0, 1]."""


def unheard(stage: str, done: float) -> None:
    """Nobody wants to know the progress."""


@dataclass(frozen=True)
class AudioInfo:
    """What the uploaded file was before it became a waveform."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono audio: float32, shape (num_samples,), in [-1, 1], at 16 kHz; in memory or on disk.

    It may be hours long: take a stretch of it, or pass over it block by block.
    """

    _samples: NDArray[np.float32] | SampleFile = field(repr=False)
    info: AudioInfo | None = None

    @property
    def num_samples(self) -> int:
        return len(self._samples)

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE_HZ

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Samples `first` up to, not including, `last`, clipped to the recording, shape (n,).

        A view of what lies in memory; from disk a copy, so not to be called on the event loop.
        """
        first = max(0, first)
        return self._samples[first : max(first, last)]

    def cut(self, start_s: float, end_s: float) -> NDArray[np.float32]:
        """Samples between two times, as `read`."""
        return self.read(round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ))

    def blocks(self, num_samples: int = BLOCK_SAMPLES) -> Iterator[NDArray[np.float32]]:
        """The whole recording in order, `num_samples` at a time; the last block may be shorter."""
        for first in range(0, self.num_samples, num_samples):
            yield self.read(first, first + num_samples)


@dataclass(frozen=True)
class Region:
    """A stretch of the recording that holds speech."""

    start: float
    end: float

    @property
    def duration_s(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker holds the floor."""

    start: float
    end: float
    speaker: str
    emotion: Emotion | None = None
    confidence: float | None = None
    """Probability that it is this speaker, of those found, in [0, 1]."""

    @property
    def duration_s(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Word:
    """One recognised word; `word` keeps Whisper's leading space, `probability` is in [0, 1]."""

    word: str
    start: float
    end: float
    probability: float
    speaker: str | None = None
    speaker_confidence: float | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a text, its bytes (not always whole characters), and ln of its probability."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True)
class Emotion:
    """How a stretch of speech sounded: every label's probability, and the likeliest label, or
    `uncertain` where none is likely enough."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Segment:
    """A stretch of transcript by one speaker, with Whisper's own measures of doubt."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    tokens: tuple[int, ...] = ()
    speaker: str | None = None
    speaker_confidence: float | None = None
    emotion: Emotion | None = None
    no_speech_prob: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    temperature: float = 0.0
    logprobs: tuple[TokenLogprob, ...] = ()
    window_start: float = 0.0
    """Where the stretch that was decoded at once begins."""


@dataclass(frozen=True)
class AnalysisOptions:
    """What the caller asked of an analysis; `None` leaves the choice to the models."""

    language: str | None = None
    task: Task = "transcribe"
    diarize: bool = True
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    identify_speakers: bool = False
    """Compare the speakers with the profiles that were enrolled."""
    emotions: bool = True
    word_timestamps: bool = True
    prompt: str | None = None
    """Text that came before, or that shows how the words are spelled."""
    temperature: float | None = None
    """Above 0, tokens are drawn at it; else the likeliest is taken, and drawn only where a
    transcript looks wrong."""
    beam_size: int | None = None
    """Texts that are followed at once; `None` follows the likeliest alone."""
    logprobs: bool = False
    speech_threshold: float | None = None
    """Probability at which speech begins, in (0, 1)."""
    min_silence_s: float | None = None
    """Silence that ends speech."""
    pad_start_s: float | None = None
    """Put before speech."""


@dataclass(frozen=True)
class Identity:
    """Who a speaker is; `likeness` is about 1 for the voice that is known by this name."""

    name: str
    profile_id: str | None
    likeness: float


@dataclass(frozen=True)
class SpeakerCount:
    """How many speakers were found, what was asked for, and how many known voices were compared."""

    found: int
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    known_voices: int = 0


@dataclass(frozen=True)
class VoiceReference:
    """Somebody known by name, and a stretch in which nobody else speaks."""

    name: str
    waveform: Waveform


@dataclass(frozen=True)
class ModelRelease:
    """The version of a model that answered, and the checkpoint it was exported from."""

    version: str
    checkpoint: str
    bundled: bool


@dataclass(frozen=True)
class SpeakerSummary:
    """One speaker of a recording."""

    id: str
    talk_time: float
    turns: int
    emotions: dict[str, float] = field(default_factory=dict)
    identity: Identity | None = None


@dataclass(frozen=True)
class EmotionCurve:
    """How one speaker sounded over time: a value of each label at each of `times`.

    `speaker` is None where the speakers weren't told apart.
    """

    speaker: str | None
    times: tuple[float, ...]
    scores: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class TurnLengths:
    """One speaker's turns: how many, and their lengths in seconds."""

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

    @property
    def duration(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Conversation:
    """Who held the floor for how long; see `api.conversation` for the definitions.

    What has a default came later: analyses that were stored before are read without it.
    """

    talk_time: dict[str, float]
    non_talk_time: float
    interruptions: int
    overlap: float
    words_per_minute: dict[str, float]
    talk_share: dict[str, float] = field(default_factory=dict)
    interruptions_by: dict[str, dict[str, int]] = field(default_factory=dict)
    """Who interrupted, whom, how often."""
    turn_lengths: dict[str, TurnLengths] = field(default_factory=dict)
    longest_monologue: Monologue | None = None
    response_time: dict[str, float] = field(default_factory=dict)
    """Median by who answers, in seconds; below 0 where they begin before the other has ended."""
    loudness: dict[str, float] = field(default_factory=dict)
    """In LUFS."""


@dataclass(frozen=True)
class Quality:
    """How far the transcript covers the speech, and what to be careful about.

    What has a default came later: analyses that were stored before are read without it.
    """

    speech_s: float
    words_outside_speech: int
    uncovered_speech_s: float
    flags: tuple[str, ...]
    missed: tuple[Region, ...] = ()
    """Speech that got no words, where that is worth a look."""
    repetition: float = 0.0
    """Share of the words that lie in loops."""
    snr_db: float | None = None
    """Speech over noise; None without speech."""
    clipped_share: float = 0.0
    """Of the samples."""


@dataclass(frozen=True)
class Analysis:
    """The whole answer for one recording."""

    id: str
    duration: float
    language: str | None
    segments: tuple[Segment, ...]
    turns: tuple[Turn, ...]
    speakers: tuple[SpeakerSummary, ...]
    emotions: tuple[str, ...]
    conversation: Conversation
    quality: Quality
    models: dict[str, ModelRelease]
    timings_ms: dict[str, float]
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    cache: dict[str, Literal["hit", "miss"]] = field(default_factory=dict)
    emotion_curves: tuple[EmotionCurve, ...] = ()
    envelope: tuple[float, ...] = ()
    """The waveform's outline: peaks of equally long stretches, 0 to 1."""
    diarization: SpeakerCount | None = None

    @property
    def cached(self) -> bool:
        """Whether every stage that was needed came from the cache."""
        return bool(self.cache) and "miss" not in self.cache.values()

    @property
    def transcription(self) -> str:
        return " ".join(s.text.strip() for s in self.segments if s.text.strip())
