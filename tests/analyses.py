"""Made-up analyses for tests of what happens to an analysis once it is made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from api.types import (
    Analysis,
    Conversation,
    Emotion,
    EmotionCurve,
    ModelRelease,
    Monologue,
    Quality,
    Region,
    Segment,
    SpeakerSummary,
    Turn,
    TurnLengths,
    Word,
)


def analysis(
    analysis_id: str,
    *,
    texts: Sequence[str] = ("one two three",),
    emotions: Sequence[str] = (),
    speakers: int = 1,
    language: str | None = "en",
    created_at: datetime | None = None,
) -> Analysis:
    """A segment of one second for each text; the speakers take turns."""
    names = [f"SPEAKER_{number:02}" for number in range(speakers)] if texts else []
    segments = tuple(
        Segment(
            start=float(n),
            end=n + 1 / 3,
            text=text,
            words=(Word(text, float(n), n + 1 / 3, 0.987654321, names[n % speakers]),),
            tokens=(50364, n),
            speaker=names[n % speakers],
            emotion=_emotion(emotions[n % len(emotions)]) if emotions else None,
            avg_logprob=-0.1234567890123,
        )
        for n, text in enumerate(texts)
    )
    return Analysis(
        id=analysis_id,
        duration=float(len(texts)),
        language=language,
        segments=segments,
        turns=tuple(Turn(s.start, s.end, str(s.speaker), s.emotion) for s in segments),
        speakers=tuple(SpeakerSummary(name, 1.5, 2, {"happy": 1.0}) for name in names),
        emotions=tuple(dict.fromkeys(emotions)),
        conversation=Conversation(
            dict.fromkeys(names, 1.5),
            0.1,
            0,
            0.0,
            {},
            talk_share=dict.fromkeys(names, 1 / max(1, len(names))),
            interruptions_by={"SPEAKER_01": {"SPEAKER_00": 2}},
            turn_lengths=dict.fromkeys(names, TurnLengths(1, 1 / 3, 1 / 3, 1 / 3)),
            longest_monologue=Monologue(names[0], 0.0, 1 / 3) if names else None,
            response_time=dict.fromkeys(names, -0.1),
            loudness=dict.fromkeys(names, -23.1),
        ),
        quality=Quality(
            1.0,
            0,
            0.0,
            ("no_speech",) if not texts else (),
            missed=(Region(0.1, 1.3),),
            repetition=0.25,
            snr_db=12.3,
            clipped_share=1e-4,
        ),
        models={"whisper": ModelRelease("1", "bundled", True)},
        timings_ms={"decode": 1.25},
        created_at=created_at or datetime.now(timezone.utc),
        cache={"vad": "hit", "whisper": "miss"},
        emotion_curves=(EmotionCurve(None, (0.5, 1.5), {"happy": (0.75, 0.5)}),),
        envelope=(0.0, 0.5, 1.0),
    )


def _emotion(label: str) -> Emotion:
    return Emotion(label, {label: 0.75, "neutral": 0.25})
