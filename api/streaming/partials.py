"""Partial transcripts whose beginning stays: LocalAgreement-2.

While somebody speaks, the utterance so far is transcribed again and again. The last words of each
hypothesis are guesses, cut off in mid-word. Words become stable once two hypotheses in a row agree
on them (Macháček, Dabre, Bojar: "Turning Whisper into Real-Time Transcription System", 2023, after
Liu et al., Interspeech 2020), and a stable word is never taken back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from api.types import Word

HOLD_BACK_S = 0.2
"""A word that ends this close to the end of the audio may go on; it isn't stable yet."""


@dataclass(frozen=True)
class Partial:
    """What was said so far: `text` begins with `stable`, which no later partial changes."""

    text: str
    stable: str


class LocalAgreement:
    """The hypotheses of one utterance, in order."""

    def __init__(self) -> None:
        self._stable: list[Word] = []
        self._guessed: list[Word] = []

    def update(self, words: Sequence[Word], heard_until_s: float) -> Partial:
        """Take the next hypothesis.

        Args:
            words: of the whole utterance so far, in order.
            heard_until_s: how far the audio reached, on the words' own clock.
        """
        new = self._beyond_stable(words)
        agreed = 0
        for word, before in zip(new, self._guessed, strict=False):
            if not _same(word, before) or word.end > heard_until_s - HOLD_BACK_S:
                break
            agreed += 1
        self._stable += new[:agreed]
        self._guessed = new[agreed:]
        return Partial(_text([*self._stable, *self._guessed]), _text(self._stable))

    def _beyond_stable(self, words: Sequence[Word]) -> list[Word]:
        """The words behind the stable ones: counted where the hypothesis repeats those, else by
        time."""
        count = len(self._stable)
        if len(words) >= count and all(map(_same, words[:count], self._stable)):
            return list(words[count:])
        until = self._stable[-1].end
        return [word for word in words if (word.start + word.end) / 2 > until]


def _same(first: Word, second: Word) -> bool:
    return _bare(first.word) == _bare(second.word)


def _bare(word: str) -> str:
    """Without case and punctuation, which Whisper changes its mind about most."""
    kept = [c for c in word.casefold() if unicodedata.category(c)[0] not in "PZ"]
    return "".join(kept)


def _text(words: Sequence[Word]) -> str:
    return "".join(word.word for word in words).strip()
