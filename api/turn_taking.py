"""Who speaks when, who holds the floor, who takes it: what conversation figures are made of.

After Jaffe & Feldstein, "Rhythms of Dialogue" (1970): the floor belongs to whoever last spoke
alone. A turn lasts until somebody else speaks alone; pauses and words of assent don't end it.
Everything sorts once and then passes over the turns: n log n, for hours as for seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from api.types import Turn

NOTICEABLE_S = 0.12
"""Shorter overlaps aren't noticed by listeners (Heldner, "Detection thresholds for gaps, overlaps,
and no-gap-no-overlaps", JASA 130, 2011), and no diarization places a border better."""


@dataclass(frozen=True)
class Interruption:
    """`by` began while `of` was speaking, and went on when `of` had stopped."""

    by: str
    of: str
    start: float


@dataclass(frozen=True)
class Coverage:
    """How long at least one spoke, at least two, and each alone and when, in seconds."""

    spoken: float
    overlap: float
    alone: tuple[Turn, ...]


def stretches(turns: Sequence[Turn]) -> list[Turn]:
    """Each speaker's turns, those that touch or overlap joined; by start, then end."""
    joined: list[Turn] = []
    by_speaker: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        by_speaker[turn.speaker].append(turn)
    for speaker, own in by_speaker.items():
        own.sort(key=lambda t: t.start)
        start, end = own[0].start, own[0].end
        for turn in own[1:]:
            if turn.start > end:
                joined.append(Turn(start, end, speaker))
                start = turn.start
            end = max(end, turn.end)
        joined.append(Turn(start, end, speaker))
    return sorted(joined, key=lambda t: (t.start, t.end))


def coverage(spoken: Sequence[Turn]) -> Coverage:
    """Sweep over the edges of what `stretches` gave."""
    edges = sorted(
        [(t.start, 1, t.speaker) for t in spoken] + [(t.end, 0, t.speaker) for t in spoken]
    )
    covered = overlap = since = 0.0
    alone: list[Turn] = []
    speaking: set[str] = set()
    for time, begins, speaker in edges:
        if time > since and speaking:
            covered += time - since
            if len(speaking) > 1:
                overlap += time - since
            else:
                alone.append(Turn(since, time, next(iter(speaking))))
        since = time
        if begins:
            speaking.add(speaker)
        else:
            speaking.discard(speaker)
    return Coverage(covered, overlap, tuple(alone))


def floor(spoken: Sequence[Turn], alone: Sequence[Turn]) -> list[Turn]:
    """The turns of those who held the floor, each from its first sound to its last.

    Args:
        spoken: what `stretches` gave.
        alone: when each of them spoke alone, see `coverage`.
    """
    # Nobody else is alone while a stretch lasts: each holds one turn's sounds at most.
    around = {(t.speaker, a.start): t for t, a in _stretch_of_each(spoken, alone)}
    held = []
    for speaker, group in groupby(alone, key=lambda a: a.speaker):
        sounds = list(group)
        first, last = around[speaker, sounds[0].start], around[speaker, sounds[-1].start]
        held.append(Turn(first.start, last.end, speaker))
    return held


def interruptions(spoken: Sequence[Turn]) -> list[Interruption]:
    """Who cut in on whom and kept speaking, in order of time; of two who begin at the same moment
    neither interrupts.

    Args:
        spoken: what `stretches` gave.
    """
    found = []
    latest: Turn | None = None  # of those who began before, whose sound ends last
    for start, together in groupby(spoken, key=lambda turn: turn.start):
        begun = list(together)
        if latest is not None and latest.end - start >= NOTICEABLE_S:
            cut_in = [turn for turn in begun if turn.end > latest.end]
            found += [Interruption(by=t.speaker, of=latest.speaker, start=start) for t in cut_in]
        if latest is None or begun[-1].end > latest.end:
            latest = begun[-1]
    return found


def _stretch_of_each(spoken: Sequence[Turn], alone: Sequence[Turn]) -> Iterator[tuple[Turn, Turn]]:
    """Each time alone with the stretch around it: a walk along each speaker's own stretches."""
    by_speaker: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in spoken:
        by_speaker[turn.speaker].append(turn)
    at: defaultdict[str, int] = defaultdict(int)
    for sound in alone:
        own = by_speaker[sound.speaker]
        while own[at[sound.speaker]].end < sound.end:
            at[sound.speaker] += 1
        yield own[at[sound.speaker]], sound
