"""Words × turns × emotion: what the three branches found becomes one analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from api import conversation, language, quality
from api.chunking import Chunk
from api.quality import Heard
from api.services.assignment import assign_speakers
from api.services.emotion import HeardWindow, Hearing
from api.services.voice_track import VoiceTrack
from api.services.whisper import Transcript
from api.sound import Sound
from api.turn_taking import stretches
from api.types import (
    Analysis,
    AnalysisOptions,
    EmotionCurve,
    Identity,
    ModelRelease,
    Region,
    Segment,
    SpeakerCount,
    Turn,
    Waveform,
    Word,
)

ENVELOPE_POINTS = 1200
"""As many as a wide screen can show."""


@dataclass(frozen=True)
class Spoken:
    """Who spoke when.

    Attributes:
        turns: in order of time; they may overlap.
        exclusive: the same with one speaker at a time, the likeliest: whose the words are.
        track: what they were drawn from; None where nobody was told apart.
        identities: of the speakers that were recognised, by the turns' names.
        known_voices: how many were compared.
    """

    turns: Sequence[Turn] = ()
    exclusive: Sequence[Turn] = ()
    track: VoiceTrack | None = None
    identities: Mapping[str, Identity] = field(default_factory=dict)
    known_voices: int = 0


@dataclass(frozen=True)
class Findings:
    """What the branches found; times in `transcripts` count from their chunk's start."""

    regions: Sequence[Region]
    chunks: Sequence[Chunk]
    transcripts: Sequence[Transcript]
    spoken: Spoken
    heard: Sequence[HeardWindow]
    emotion_labels: Sequence[str]
    sound: Sound


def assemble(
    analysis_id: str,
    waveform: Waveform,
    options: AnalysisOptions,
    found: Findings,
    releases: dict[str, ModelRelease],
    timings_ms: dict[str, float],
) -> Analysis:
    """The whole answer, in the recording's own time."""
    segments: Sequence[Segment] = [
        segment
        for chunk, transcript in zip(found.chunks, found.transcripts, strict=True)
        for segment in to_source(transcript.segments, chunk)
    ]
    turns = found.spoken.turns
    if options.diarize:
        segments = assign_speakers(segments, found.spoken.exclusive, found.spoken.track)
    curves: tuple[EmotionCurve, ...] = ()
    if options.emotions:
        hearing = Hearing(found.heard, found.emotion_labels)
        segments = [replace(s, emotion=hearing.over(s.start, s.end)) for s in segments]
        turns = [replace(t, emotion=hearing.over(t.start, t.end)) for t in turns]
        curves = _curves(hearing, turns, found.regions, waveform.duration_s)
    return Analysis(
        id=analysis_id,
        duration=waveform.duration_s,
        language=options.language or language.vote(found.chunks, found.transcripts),
        segments=tuple(segments),
        turns=tuple(turns),
        speakers=tuple(
            replace(speaker, identity=found.spoken.identities.get(speaker.id))
            for speaker in conversation.speakers(turns, segments)
        ),
        emotions=conversation.emotions(segments),
        conversation=conversation.analyse(turns, segments, found.sound),
        quality=quality.audit(segments, Heard(found.regions, _wordless(found), found.sound)),
        models=releases,
        timings_ms=timings_ms,
        emotion_curves=curves,
        envelope=found.sound.envelope(ENVELOPE_POINTS),
        diarization=_count(options, found.spoken) if options.diarize else None,
    )


def _count(options: AnalysisOptions, spoken: Spoken) -> SpeakerCount:
    return SpeakerCount(
        found=len({turn.speaker for turn in spoken.turns}),
        num_speakers=options.num_speakers,
        min_speakers=options.min_speakers,
        max_speakers=options.max_speakers,
        known_voices=spoken.known_voices,
    )


def _curves(
    hearing: Hearing, turns: Sequence[Turn], regions: Sequence[Region], duration_s: float
) -> tuple[EmotionCurve, ...]:
    """One a speaker, by first appearance; one for all speech where nobody was told apart."""
    spoken: defaultdict[str | None, list[tuple[float, float]]] = defaultdict(list)
    for turn in stretches(turns):
        spoken[turn.speaker].append((turn.start, turn.end))
    if not turns and regions:
        spoken[None] = [(r.start, r.end) for r in regions]
    return tuple(hearing.curve(who, own, duration_s) for who, own in spoken.items())


def _wordless(found: Findings) -> list[Region]:
    """Spans of the chunks that came back without text: the detector heard somebody there."""
    return [
        Region(chunk.start, chunk.end)
        for chunk, transcript in zip(found.chunks, found.transcripts, strict=True)
        if not any(segment.text.strip() for segment in transcript.segments)
    ]


def to_source(segments: Sequence[Segment], chunk: Chunk) -> list[Segment]:
    """Segments of one chunk, in the recording's time; each from its first word to its last."""
    moved: list[Segment] = []
    for segment in segments:
        words = tuple(_word_to_source(word, chunk) for word in segment.words)
        start, end = chunk.to_source(segment.start), chunk.to_source(segment.end, is_end=True)
        if words:
            start, end = words[0].start, words[-1].end
        moved.append(replace(segment, start=start, end=end, window_start=chunk.start, words=words))
    return moved


def _word_to_source(word: Word, chunk: Chunk) -> Word:
    start, end = chunk.word_to_source(word.start, word.end)
    return replace(word, start=start, end=end)
