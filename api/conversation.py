"""Conversation analytics from speaker turns: who held the floor, for how long, who cut in.

Definitions, after Jaffe & Feldstein, "Rhythms of Dialogue" (1970), in the words used since:

- talk time: the length of a speaker's turns;
- non-talk time: the recording's length minus the union of all turns;
- overlap: time in which at least two speakers hold a turn;
- interruption: a turn that starts while another speaker's turn still lasts, and outlives it;
- words per minute: words over talk time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby

from api.types import Conversation, Segment, SpeakerSummary, Turn


def analyse(turns: Sequence[Turn], segments: Sequence[Segment], duration_s: float) -> Conversation:
    """The conversation as numbers; turns may overlap and come in any order."""
    turns = sorted(turns, key=lambda t: (t.start, t.end))
    talk_time = _talk_time(turns)
    union, overlap = _union_and_overlap(turns)
    words = Counter[str]()
    for segment in segments:
        if segment.speaker is not None:
            words[segment.speaker] += len(segment.words) or len(segment.text.split())
    return Conversation(
        talk_time=talk_time,
        non_talk_time=max(0.0, duration_s - union),
        interruptions=_interruptions(turns),
        overlap=overlap,
        words_per_minute={s: 60 * words[s] / t for s, t in talk_time.items() if t > 0},
    )


def speakers(turns: Sequence[Turn], segments: Sequence[Segment]) -> tuple[SpeakerSummary, ...]:
    """One line a speaker, by first appearance; emotions are shares of their spoken time.

    `turns` counts how often a speaker took the floor: a pause ends no turn, another voice does.
    """
    talk_time = _talk_time(turns)
    in_order = sorted(turns, key=lambda t: t.start)
    count = Counter(speaker for speaker, _ in groupby(in_order, key=lambda t: t.speaker))
    return tuple(
        SpeakerSummary(
            id=speaker,
            talk_time=talk_time[speaker],
            turns=count[speaker],
            emotions=_emotion_shares([s for s in segments if s.speaker == speaker]),
        )
        for speaker in talk_time
    )


def emotions(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Labels heard in the recording, most present first."""
    shares = _emotion_shares(segments)
    return tuple(sorted(shares, key=shares.__getitem__, reverse=True))


def _emotion_shares(segments: Sequence[Segment]) -> dict[str, float]:
    spoken: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        if segment.emotion is not None:
            spoken[segment.emotion.label] += segment.end - segment.start
    total = sum(spoken.values())
    return {label: time / total for label, time in spoken.items()} if total > 0 else {}


def _talk_time(turns: Sequence[Turn]) -> dict[str, float]:
    talk_time: dict[str, float] = {}
    for turn in sorted(turns, key=lambda t: t.start):
        talk_time[turn.speaker] = talk_time.get(turn.speaker, 0.0) + turn.duration_s
    return talk_time


def _union_and_overlap(turns: Sequence[Turn]) -> tuple[float, float]:
    """Seconds covered by at least one turn, and by at least two: a sweep over the turns' edges."""
    edges = sorted([(t.start, 1) for t in turns] + [(t.end, -1) for t in turns])
    union = overlap = 0.0
    holders, since = 0, 0.0
    for time, change in edges:
        union += (time - since) * (holders >= 1)
        overlap += (time - since) * (holders >= 2)
        holders, since = holders + change, time
    return union, overlap


def _interruptions(turns: Sequence[Turn]) -> int:
    """Turns are sorted by start; the floor is held by whoever's turn ends last so far."""
    count = 0
    floor: Turn | None = None
    for turn in turns:
        if floor is None or turn.end > floor.end:
            if floor is not None and turn.start < floor.end and turn.speaker != floor.speaker:
                count += 1
            floor = turn
    return count
