"""Who speaks when: the timeline of a conversation, before any audio is mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.synthesis.takes import Take

LEAD_S: Final = 0.5
"""Silence before the first turn and after the last one."""

_TURN_S: Final = (1.5, 6.0)
"""How much a speaker says before the floor changes hands."""

_PAUSE_S: Final = (0.05, 0.25)
"""Pauses within a turn. Below 0.3 s NIST's scoring doesn't part a turn (Rich Transcription
evaluation plans, "Guidelines for RTTM", RT-03 to RT-09), so a turn is one RTTM line."""

_GAP_S: Final = (0.3, 1.2)
"""Gaps between turns. Real ones have their mode at 0.2 s (Heldner & Edlund, "Pauses, gaps and
overlaps in conversations", Journal of Phonetics 38, 2010); below 0.3 s a gap would be a pause."""

_MAX_OVERLAP_OF_TURN: Final = 0.8
"""No more of the shorter turn than this lies under the other one."""


@dataclass(frozen=True)
class Placed:
    """A take and where its voiced part begins, in seconds of the conversation."""

    take: Take
    start_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.take.voiced_s


@dataclass(frozen=True)
class Turn:
    """What one speaker says without a break of 0.3 s, in one emotion where the takes have any."""

    speaker: str
    placed: tuple[Placed, ...]

    @property
    def start_s(self) -> float:
        return self.placed[0].start_s

    @property
    def end_s(self) -> float:
        return self.placed[-1].end_s

    @property
    def emotion(self) -> str | None:
        return self.placed[0].take.emotion


class _Deck:
    """Deals every take once before any comes again."""

    def __init__(self, takes: Sequence[Take], rng: np.random.Generator) -> None:
        self._takes, self._rng = takes, rng
        self._rest: list[int] = []

    def deal(self) -> Take:
        if not self._rest:
            self._rest = [int(i) for i in self._rng.permutation(len(self._takes))]
        return self._takes[self._rest.pop()]


def plan(
    takes: Mapping[str, Sequence[Take]],
    duration_s: float,
    overlap: float,
    rng: np.random.Generator,
) -> list[Turn]:
    """A conversation of all the given speakers, at least `duration_s` long.

    Args:
        takes: by speaker, at least two speakers, at least one take each.
        overlap: share of the time with speech in which two people speak, 0 to 0.25; each
            conversation meets it to about 0.03. At most two ever speak at once.

    Returns:
        Turns by start; the first begins at LEAD_S.
    """
    decks = {
        speaker: [_Deck(of_emotion, rng) for of_emotion in _by_emotion(of_speaker)]
        for speaker, of_speaker in takes.items()
    }
    order = [str(speaker) for speaker in rng.permutation(sorted(decks))]
    turns: list[Turn] = []
    overlapped_s = 0.0
    while order or turns[-1].end_s < duration_s - LEAD_S:
        speaker = order.pop() if order else _next_speaker(sorted(decks), turns[-1].speaker, rng)
        own = decks[speaker]
        turn = _say(speaker, own[rng.integers(len(own))], rng)
        if turns:
            gap_s = float(rng.uniform(*_GAP_S))
            if rng.random() < 0.4 + 2 * overlap:  # the others leave a gap, as people do
                gap_s = _gap_or_overlap(turns, turn, gap_s, overlap, overlapped_s)
            overlapped_s += max(0.0, -gap_s)
            turn = _shift(turn, turns[-1].end_s + gap_s)
        else:
            turn = _shift(turn, LEAD_S)
        turns.append(turn)
    return turns


def _by_emotion(takes: Sequence[Take]) -> list[list[Take]]:
    emotions = sorted({take.emotion or "" for take in takes})
    return [[take for take in takes if (take.emotion or "") == emotion] for emotion in emotions]


def _next_speaker(speakers: Sequence[str], last: str, rng: np.random.Generator) -> str:
    others = [speaker for speaker in speakers if speaker != last]
    return others[rng.integers(len(others))]


def _say(speaker: str, deck: _Deck, rng: np.random.Generator) -> Turn:
    """A turn that begins at 0 s."""
    wanted_s = rng.uniform(*_TURN_S)
    placed: list[Placed] = []
    end_s = 0.0
    while not placed or end_s < wanted_s:
        placed.append(Placed(deck.deal(), end_s))
        end_s = placed[-1].end_s + float(rng.uniform(*_PAUSE_S))
    return Turn(speaker, tuple(placed))


def _gap_or_overlap(
    turns: Sequence[Turn], turn: Turn, gap_s: float, overlap: float, overlapped_s: float
) -> float:
    """Seconds from the end of the last turn to the start of this one; negative is overlap.

    Whatever overlap is missing at this point is made up now, as far as the rules allow: not
    more than most of either turn, no third voice, and the speaker's own last turn is over.
    """
    last, length_s = turns[-1], turn.end_s - turn.start_s
    spoken_s = sum(t.end_s - t.start_s for t in turns) - overlapped_s + length_s
    missing_s = (overlap * spoken_s - overlapped_s) / (1 + overlap)
    floor_free_s = turns[-2].end_s + gap_s if len(turns) > 1 else LEAD_S
    most_s = min(
        _MAX_OVERLAP_OF_TURN * min(last.end_s - last.start_s, length_s),
        last.end_s - max(floor_free_s, last.start_s),
    )
    wanted_s = min(missing_s, most_s)
    return -wanted_s if wanted_s > 0.1 else gap_s


def _shift(turn: Turn, start_s: float) -> Turn:
    return Turn(turn.speaker, tuple(Placed(p.take, p.start_s + start_s) for p in turn.placed))
