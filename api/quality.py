"""The audit that comes with every answer: does the transcript cover the speech, and only it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from api.repetition import repetition
from api.services.windows import merge
from api.sound import Sound
from api.types import Quality, Region, Segment

LOW_LOGPROB = -1.0
"""Below it openai-whisper takes a decoding as failed (whisper/transcribe.py, logprob_threshold)."""

HIGH_COMPRESSION_RATIO = 2.4
"""Above it openai-whisper takes a text as repetitive (compression_ratio_threshold)."""

TOLERANCE_S = 0.25
"""Slack at the edges of words and regions: the detector pads, the aligner rounds."""

UNCOVERED_SHARE = 0.25
"""Speech without words above this share of all speech is worth a flag."""

MISSED_S = 1.0
"""Speech without words for this long is worth a flag, however long the recording: three words at a
usual pace. See docs/analysis.md for what it finds, and how often it is wrong."""

MAX_MISSED = 100
"""Stretches named in an answer, the longest first to be kept."""

LOW_SNR_DB = 10.0
"""Whisper's errors rise steeply below it (Radford et al. 2022, figure 5)."""

CLIPPED_SHARE = 0.001
"""Of the samples. Speech that is 6 dB too loud has some 1%, speech that just fits none."""


@dataclass(frozen=True)
class Heard:
    """What the transcript is held against.

    Attributes:
        regions: where the detector heard speech, in order and without overlap.
        wordless: spans of chunks that came back without any text.
        sound: level, noise and clipping.
    """

    regions: Sequence[Region]
    wordless: Sequence[Region]
    sound: Sound


def audit(segments: Sequence[Segment], heard: Heard) -> Quality:
    """Compare the words with the speech that the detector heard.

    Speech counts as covered where a word lies over it, widened by the tolerance; a segment whose
    words have no times stands for them.
    """
    regions = heard.regions
    speech_s = sum(r.duration_s for r in regions)
    uncovered = _subtract(regions, _spoken(segments))
    uncovered_s = sum(r.duration_s for r in uncovered)
    outside = _words_outside(segments, regions)
    missed = _missed(uncovered, heard.wordless)
    repeated = repetition([w for s in segments for w in s.text.split()])
    snr_db = heard.sound.snr_db(regions)
    clipped = heard.sound.clipped_share
    checks = {
        "no_speech": speech_s == 0,
        "speech_without_words": bool(missed) or uncovered_s > UNCOVERED_SHARE * speech_s,
        "words_outside_speech": outside > 0,
        "low_confidence": any(s.avg_logprob < LOW_LOGPROB for s in segments),
        "repetition": repeated > 0
        or any(s.compression_ratio > HIGH_COMPRESSION_RATIO for s in segments),
        "low_snr": snr_db is not None and snr_db < LOW_SNR_DB,
        "clipping": clipped > CLIPPED_SHARE,
    }
    return Quality(
        speech_s=speech_s,
        words_outside_speech=outside,
        uncovered_speech_s=uncovered_s,
        flags=tuple(flag for flag, raised in checks.items() if raised),
        missed=missed,
        repetition=repeated,
        snr_db=snr_db,
        clipped_share=clipped,
    )


def _spoken(segments: Sequence[Segment]) -> list[Region]:
    """Where words lie, widened by the tolerance; in order, without overlap."""
    spans = [
        (span.start, span.end)
        for segment in segments
        if segment.text.strip()
        for span in (segment.words or (segment,))
    ]
    return merge([Region(a - TOLERANCE_S, b + TOLERANCE_S) for a, b in sorted(spans)], 0.0)


def _subtract(regions: Sequence[Region], covers: Sequence[Region]) -> list[Region]:
    """What of the regions no cover lies over; both in order and without overlap."""
    left: list[Region] = []
    first = 0
    for region in regions:
        while first < len(covers) and covers[first].end <= region.start:
            first += 1
        at, index = region.start, first
        while index < len(covers) and covers[index].start < region.end:
            if covers[index].start > at:
                left.append(Region(at, covers[index].start))
            at = max(at, covers[index].end)
            index += 1
        if at < region.end:
            left.append(Region(at, region.end))
    return left


def _words_outside(segments: Sequence[Segment], regions: Sequence[Region]) -> int:
    ends = [region.end for region in regions]

    def is_outside(start: float, end: float) -> bool:
        index = bisect_left(ends, start - TOLERANCE_S)  # the first region that isn't over by then
        return index == len(ends) or regions[index].start > end + TOLERANCE_S

    return sum(is_outside(w.start, w.end) for s in segments for w in s.words)


def _missed(uncovered: Sequence[Region], wordless: Sequence[Region]) -> tuple[Region, ...]:
    """Chunks without text, and whatever else was passed over for long; in order of time."""
    found = [*wordless, *(r for r in uncovered if r.duration_s >= MISSED_S)]
    joined = merge(sorted(found, key=lambda r: r.start), 0.0)
    longest = sorted(joined, key=lambda r: r.duration_s, reverse=True)[:MAX_MISSED]
    return tuple(sorted(longest, key=lambda r: r.start))
