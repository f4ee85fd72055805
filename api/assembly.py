"""Words × turns × emotion: what the three branches found becomes one analysis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from api import conversation, quality
from api.chunking import Chunk
from api.services import diarization, emotion
from api.services.emotion import HeardWindow
from api.services.whisper import Transcript
from api.types import Analysis, AnalysisOptions, ModelRelease, Region, Segment, Turn, Waveform


@dataclass(frozen=True)
class Findings:
    """What the branches found; times in `transcripts` count from their chunk's start."""

    regions: Sequence[Region]
    chunks: Sequence[Chunk]
    transcripts: Sequence[Transcript]
    turns: Sequence[Turn]
    heard: Sequence[HeardWindow]
    emotion_labels: Sequence[str]


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
    if options.diarize:
        segments = diarization.assign_speakers(segments, found.turns)
    if options.emotions:
        segments = [
            replace(s, emotion=emotion.over(found.heard, s.start, s.end, found.emotion_labels))
            for s in segments
        ]
    return Analysis(
        id=analysis_id,
        duration=waveform.duration_s,
        language=options.language or spoken_language(found.chunks, found.transcripts),
        segments=tuple(segments),
        turns=tuple(found.turns),
        speakers=conversation.speakers(found.turns, segments),
        emotions=conversation.emotions(segments),
        conversation=conversation.analyse(found.turns, segments, waveform.duration_s),
        quality=quality.audit(segments, found.regions),
        models=releases,
        timings_ms=timings_ms,
    )


def to_source(segments: Sequence[Segment], chunk: Chunk) -> list[Segment]:
    """Segments of one chunk, in the recording's time."""
    return [
        replace(
            segment,
            start=chunk.to_source(segment.start),
            end=chunk.to_source(segment.end, is_end=True),
            window_start=chunk.start,
            words=tuple(
                replace(w, start=chunk.to_source(w.start), end=chunk.to_source(w.end, is_end=True))
                for w in segment.words
            ),
        )
        for segment in segments
    ]


def spoken_language(chunks: Sequence[Chunk], transcripts: Sequence[Transcript]) -> str | None:
    """The chunks vote, each with its length times Whisper's certainty; None without speech."""
    votes: defaultdict[str, float] = defaultdict(float)
    for chunk, transcript in zip(chunks, transcripts, strict=True):
        votes[transcript.language] += chunk.duration_s * transcript.language_probability
    return max(votes, key=votes.__getitem__) if votes else None
