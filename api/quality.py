"""The audit that comes with every answer: does the transcript cover the speech, and only it."""

from __future__ import annotations

from collections.abc import Sequence

from api.services.windows import merge
from api.types import Quality, Region, Segment

LOW_LOGPROB = -1.0
"""Below it openai-whisper takes a decoding as failed (whisper/transcribe.py, logprob_threshold)."""

HIGH_COMPRESSION_RATIO = 2.4
"""Above it openai-whisper takes a text as repetitive (compression_ratio_threshold)."""

TOLERANCE_S = 0.25
"""Slack at the edges of words and regions: the detector pads, the aligner rounds."""

UNCOVERED_SHARE = 0.25
"""Speech without words above this share of all speech is worth a flag."""


def audit(segments: Sequence[Segment], regions: Sequence[Region]) -> Quality:
    """Compare the words with the speech that the detector heard.

    A region counts as covered where a segment's time, widened by the tolerance, lies over it.
    """
    speech_s = sum(r.duration_s for r in regions)
    spoken = [
        Region(s.start - TOLERANCE_S, s.end + TOLERANCE_S) for s in segments if s.text.strip()
    ]
    uncovered_s = max(0.0, speech_s - _intersection(regions, spoken))
    outside = sum(
        not any(w.end > r.start - TOLERANCE_S and w.start < r.end + TOLERANCE_S for r in regions)
        for s in segments
        for w in s.words
    )
    return Quality(
        speech_s=speech_s,
        words_outside_speech=outside,
        uncovered_speech_s=uncovered_s,
        flags=tuple(_flags(segments, speech_s, uncovered_s, outside)),
    )


def _flags(
    segments: Sequence[Segment], speech_s: float, uncovered_s: float, outside: int
) -> list[str]:
    checks = {
        "no_speech": speech_s == 0,
        "speech_without_words": speech_s > 0 and uncovered_s > UNCOVERED_SHARE * speech_s,
        "words_outside_speech": outside > 0,
        "low_confidence": any(s.avg_logprob < LOW_LOGPROB for s in segments),
        "repetition": any(s.compression_ratio > HIGH_COMPRESSION_RATIO for s in segments),
    }
    return [flag for flag, raised in checks.items() if raised]


def _intersection(first: Sequence[Region], second: Sequence[Region]) -> float:
    """Seconds in both; each side is made disjoint first."""
    total = 0.0
    others = merge(sorted(second, key=lambda r: r.start), 0.0)
    for region in merge(sorted(first, key=lambda r: r.start), 0.0):
        total += sum(max(0.0, min(region.end, o.end) - max(region.start, o.start)) for o in others)
    return total
