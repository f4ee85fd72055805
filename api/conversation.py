"""Conversation analytics from speaker turns: who held the floor, for how long, who cut in.

Definitions, after Jaffe & Feldstein, "Rhythms of Dialogue" (1970), in the words used since:

- talk time: the length of a speaker's turns as diarization drew them; its share: of everybody's;
- non-talk time: the recording's length minus the union of all turns;
- overlap: time in which at least two speakers hold a turn;
- interruption: a turn that starts while another speaker's turn still lasts, and outlives it
  (`api.turn_taking` says from which overlap on);
- turn length, longest monologue: from a turn's first sound to its last, pauses included, until
  somebody else speaks alone;
- response time: from the end of one speaker's turn to the start of the next one's, below 0 where
  they overlap ("floor transfer offset", Heldner & Edlund 2010; de Ruiter, Mitterer & Enfield 2006);
- words per minute: words over talk time;
- loudness: ITU-R BS.1770-4, of the times in which a speaker speaks alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from api.loudness import integrated
from api.services.emotion import UNCERTAIN
from api.sound import Sound
from api.turn_taking import coverage, floor, interruptions, stretches
from api.types import Conversation, Monologue, Segment, SpeakerSummary, Turn, TurnLengths


def analyse(turns: Sequence[Turn], segments: Sequence[Segment], sound: Sound) -> Conversation:
    """The conversation as numbers; turns may overlap and come in any order."""
    spoken = stretches(turns)
    talk_time = _talk_time(spoken)
    covered = coverage(spoken)
    held = floor(spoken, covered.alone)
    words = Counter[str]()
    for segment in segments:
        if segment.speaker is not None:
            words[segment.speaker] += len(segment.words) or len(segment.text.split())
    cut_in = interruptions(spoken)
    total = sum(talk_time.values())
    return Conversation(
        talk_time=talk_time,
        non_talk_time=max(0.0, sound.duration_s - covered.spoken),
        interruptions=len(cut_in),
        overlap=covered.overlap,
        words_per_minute={s: 60 * words[s] / t for s, t in talk_time.items() if t > 0},
        talk_share={s: t / total for s, t in talk_time.items() if total > 0},
        interruptions_by=_who_whom([(i.by, i.of) for i in cut_in]),
        turn_lengths={s: _lengths([t for t in held if t.speaker == s]) for s in talk_time},
        longest_monologue=_longest(held),
        response_time=_response_time(held),
        loudness=_loudness(covered.alone, sound),
    )


def speakers(turns: Sequence[Turn], segments: Sequence[Segment]) -> tuple[SpeakerSummary, ...]:
    """One line a speaker, by first appearance; emotions are shares of their spoken time.

    `turns` counts how often a speaker took the floor: a pause ends no turn, another voice does.
    """
    spoken = stretches(turns)
    count = Counter(turn.speaker for turn in floor(spoken, coverage(spoken).alone))
    said: defaultdict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment.speaker is not None:
            said[segment.speaker].append(segment)
    return tuple(
        SpeakerSummary(
            id=speaker, talk_time=time, turns=count[speaker], emotions=_shares(said[speaker])
        )
        for speaker, time in _talk_time(spoken).items()
    )


def emotions(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Labels heard in the recording, most present first; what stayed uncertain is none."""
    shares = _shares(segments)
    heard = sorted(shares, key=shares.__getitem__, reverse=True)
    return tuple(label for label in heard if label != UNCERTAIN)


def _shares(segments: Sequence[Segment]) -> dict[str, float]:
    spoken: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        if segment.emotion is not None:
            spoken[segment.emotion.label] += segment.end - segment.start
    total = sum(spoken.values())
    return {label: time / total for label, time in spoken.items()} if total > 0 else {}


def _talk_time(spoken: Sequence[Turn]) -> dict[str, float]:
    talk_time: defaultdict[str, float] = defaultdict(float)
    for turn in spoken:
        talk_time[turn.speaker] += turn.duration_s
    return dict(talk_time)


def _who_whom(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for by, of in pairs:
        counts[by][of] = counts[by].get(of, 0) + 1
    return dict(counts)


def _lengths(held: Sequence[Turn]) -> TurnLengths:
    lengths = [turn.duration_s for turn in held]
    if not lengths:
        return TurnLengths(count=0, mean=0.0, median=0.0, longest=0.0)
    return TurnLengths(
        count=len(lengths), mean=fmean(lengths), median=median(lengths), longest=max(lengths)
    )


def _longest(held: Sequence[Turn]) -> Monologue | None:
    if not held:
        return None
    turn = max(held, key=lambda t: t.duration_s)
    return Monologue(turn.speaker, turn.start, turn.end)


def _response_time(held: Sequence[Turn]) -> dict[str, float]:
    """The median by who answers; whoever never follows somebody else isn't in it."""
    offsets: defaultdict[str, list[float]] = defaultdict(list)
    for before, after in pairwise(held):
        offsets[after.speaker].append(after.start - before.end)
    return {speaker: median(own) for speaker, own in offsets.items()}


def _loudness(alone: Sequence[Turn], sound: Sound) -> dict[str, float]:
    """In LUFS; whoever is never alone for long enough isn't in it."""
    by_speaker: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in alone:
        by_speaker[turn.speaker].append((turn.start, turn.end))
    levels = {s: integrated(sound.weighted, own) for s, own in by_speaker.items()}
    return {speaker: level for speaker, level in levels.items() if level is not None}
