"""Turns that overlap: where two speak at once, the second likeliest voice speaks, too."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from api.services.voice_track import VoiceTrack
from api.services.windows import MERGE_GAP_S, Window
from api.types import Region, Turn

_PROBE_S = 0.05

_MOST_SHARED = 0.25
"""Share of a window in which two may be heard before it says little of either: a quarter of the
second and a half, which the embedding, a mean over time, hardly notices."""

_CERTAIN_S, _CERTAIN_SHARE = 2.0, 0.05
"""Overlap that there must be two people for. In 49 minutes of single voices, clean, in pink noise
and in rooms of 0.5 to 0.9 s, 3.4 s of overlap were heard, at most 1.5 s and 4% of any recording."""

_FEWEST_EACH = 3
"""Windows for each speaker, below which those with overlap are better than none."""


def fewest_speakers(overlaps: Sequence[Region], talk: Sequence[Region]) -> int:
    """How many speakers there are at least: two, where two are heard at once for long enough.

    Args:
        overlaps: where two are heard at once.
        talk: where anybody is heard.
    """
    overlap_s = sum(overlap.duration_s for overlap in overlaps)
    talk_s = sum(region.duration_s for region in talk)
    return 2 if overlap_s >= max(_CERTAIN_S, _CERTAIN_SHARE * talk_s) else 1


def windows_alone(
    cut: Sequence[Window], overlaps: Sequence[Region], num_speakers: int
) -> NDArray[np.bool_]:
    """Which windows one voice has for itself, to tell the voices apart by.

    What two say at once sounds like neither of them, and makes one speaker of both: of eight
    conversations of two people each, clustered with it, one person was found in five where a tenth
    of the talk overlaps, and in seven where a fifth does.

    Args:
        cut: in order of time.
        overlaps: where two are heard at once, in order.
        num_speakers: how many there are at least.

    Returns:
        Shape (len(cut),); all of them where too few are left.
    """
    starts = np.array([window.start_s for window in cut])
    ends = np.array([window.end_s for window in cut])
    shared_s = np.zeros(len(cut))
    for overlap in overlaps:
        touched = slice(np.searchsorted(ends, overlap.start), np.searchsorted(starts, overlap.end))
        shared_s[touched] += np.minimum(ends[touched], overlap.end) - np.maximum(
            starts[touched], overlap.start
        )
    alone: NDArray[np.bool_] = shared_s <= _MOST_SHARED * (ends - starts)
    return alone if alone.sum() >= _FEWEST_EACH * num_speakers else np.ones(len(cut), np.bool_)


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
