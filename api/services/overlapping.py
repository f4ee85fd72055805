"""Turns that overlap: where two speak at once, the second likeliest voice speaks, too."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from api.services.voice_track import VoiceTrack
from api.services.windows import MERGE_GAP_S
from api.types import Region, Turn

_PROBE_S = 0.05


def overlapping(
    exclusive: Sequence[Turn], track: VoiceTrack, overlaps: Sequence[Region]
) -> list[Turn]:
    """Let a second speaker hold a turn where two were heard at once.

    After Bullock, Bredin & Garcia-Perera, "Overlap-aware diarization: resegmentation using neural
    end-to-end overlapped speech detection", ICASSP 2020: beside the speaker of the exclusive turn,
    it is the next likeliest of the voices, over the whole overlap. A speaker's turns less than
    0.3 s apart become one, as in NIST's evaluations.

    Args:
        exclusive: turns of the track's speakers, in order of time, not overlapping.
        track: who is heard, moment by moment.
        overlaps: where two were heard at once, in order.

    Returns:
        Turns by start, then end. Where nothing overlaps they are the ones that came in.
    """
    added = [turn for overlap in overlaps for turn in _seconds(overlap, exclusive, track)]
    if not added:
        return list(exclusive)
    by_speaker = sorted([*exclusive, *added], key=lambda turn: (turn.speaker, turn.start))
    whole = [
        turn
        for _, own in groupby(by_speaker, key=lambda turn: turn.speaker)
        for turn in _joined(list(own), track)
    ]
    return sorted(whole, key=lambda turn: (turn.start, turn.end))


def _seconds(overlap: Region, exclusive: Sequence[Turn], track: VoiceTrack) -> list[Turn]:
    """The other speaker beside each exclusive turn within an overlap."""
    found = []
    steps = max(1, round(overlap.duration_s / _PROBE_S))
    moments_s = overlap.start + (np.arange(steps) + 0.5) * overlap.duration_s / steps
    likeliest = np.argsort(-track.at(moments_s).mean(axis=0))
    names = [track.names[label] for label in likeliest]
    first = bisect_right(exclusive, overlap.start, key=lambda turn: turn.end)
    for turn in exclusive[first:]:
        if turn.start >= overlap.end:
            break
        start, end = max(turn.start, overlap.start), min(turn.end, overlap.end)
        second = next((name for name in names if name != turn.speaker), None)
        if second is not None:
            found.append(Turn(start, end, second))
    return found


def _joined(own: Sequence[Turn], track: VoiceTrack) -> list[Turn]:
    """One speaker's turns by start; those that an overlap brings together become one."""
    joined: list[Turn] = []
    for turn in own:
        last = joined[-1] if joined else None
        # Turns that no overlap was added to carry their confidence, and stay as they were.
        is_added = turn.confidence is None or (last is not None and last.confidence is None)
        if last is not None and is_added and turn.start - last.end < MERGE_GAP_S:
            joined[-1] = Turn(last.start, max(last.end, turn.end), turn.speaker)
        else:
            joined.append(turn)
    return [
        (
            Turn(t.start, t.end, t.speaker, confidence=track.confidence(t.speaker, t.start, t.end))
            if t.confidence is None
            else t
        )
        for t in joined
    ]
