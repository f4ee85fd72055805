"""Turns meet words: who said each of them, and how sure that is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from api.services.voice_track import VoiceTrack
from api.types import Segment, Turn, Word


def assign_speakers(
    segments: Sequence[Segment], spoken: Sequence[Turn], track: VoiceTrack | None
) -> list[Segment]:
    """Give segments and their words speakers, and split a segment where its speaker changes.

    A word goes to the speaker whose turns overlap it most, else the nearest turn's. The pieces of a
    split segment keep the measures of the whole; their texts are their words', and they carry no
    tokens, for tokens know no word borders. A segment without words stays whole.

    Args:
        segments: any order.
        spoken: turns in order of time, not overlapping; with none, nobody gets a speaker.
        track: says how sure a speaker is; None only without turns.
    """
    if not spoken or track is None:
        return list(segments)
    ends = [turn.end for turn in spoken]

    def assigned(item: Word | Segment) -> tuple[str, float]:
        speaker = _speaker_at(item.start, item.end, spoken, ends)
        return speaker, track.confidence(speaker, item.start, item.end)

    pieces: list[Segment] = []
    for segment in segments:
        words = []
        for word in segment.words:
            speaker, confidence = assigned(word)
            words.append(replace(word, speaker=speaker, speaker_confidence=confidence))
        groups = [tuple(group) for _, group in groupby(words, key=lambda word: word.speaker)]
        if len(groups) > 1:
            pieces += [_piece(segment, group) for group in groups]
        elif words:
            pieces.append(_with_words(segment, tuple(words)))
        else:
            speaker, confidence = assigned(segment)
            pieces.append(replace(segment, speaker=speaker, speaker_confidence=confidence))
    return pieces


def _speaker_at(start: float, end: float, spoken: Sequence[Turn], ends: Sequence[float]) -> str:
    overlaps: dict[str, float] = {}
    first = bisect_left(ends, start)
    for turn in spoken[first:]:
        if turn.start >= end:
            break
        shared = min(end, turn.end) - max(start, turn.start)
        if shared > 0:
            overlaps[turn.speaker] = overlaps.get(turn.speaker, 0.0) + shared
    if overlaps:
        return max(overlaps, key=lambda speaker: overlaps[speaker])
    near = spoken[max(0, first - 1) : first + 1]
    return min(near, key=lambda turn: max(turn.start - end, start - turn.end)).speaker


def _with_words(segment: Segment, words: tuple[Word, ...]) -> Segment:
    """The segment with these words, all by one speaker; its confidence is their mean."""
    sure = [word.speaker_confidence for word in words if word.speaker_confidence is not None]
    return replace(
        segment,
        words=words,
        speaker=words[0].speaker,
        speaker_confidence=sum(sure) / len(sure) if sure else None,
    )


def _piece(segment: Segment, words: tuple[Word, ...]) -> Segment:
    return replace(
        _with_words(segment, words),
        start=words[0].start,
        end=words[-1].end,
        text="".join(word.word for word in words),
        tokens=(),
        logprobs=(),
    )
