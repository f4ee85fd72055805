"""How one clip's text is searched for: the likeliest token, drawn tokens, or a beam.

Every search has a group of rows in the batch, of one size for its whole life. It is told the
scores of its rows' next tokens, and answers with how the rows go on. The numbers are
openai-whisper's (`GreedyDecoder`, `BeamSearchDecoder`, `MaximumLikelihoodRanker` in decoding.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DecodingTask:
    """One clip to be decoded.

    Attributes:
        clip: its index among the encoded ones.
        prompt: tokens that the text continues: what came before, the start sequence, a prefix.
        temperature: 0 takes the likeliest tokens, above 0 draws them.
        seed: of the draws, so that a clip's answer doesn't depend on its neighbours.
        end_timestamp: token of the audio's end; a timestamp beyond it ends a text, but not a beam.
        is_cancelled: asked now and then; True takes the clip out without an answer.
        beam_size: texts that are followed at once at temperature 0; 1 follows the likeliest alone.
        best_of: texts that are drawn above 0; the likeliest is taken.
        patience: a beam search ends with `beam_size * patience` finished texts (Kasai et al. 2022).
        length_penalty: None ranks texts by their mean log probability, a number alpha by Google
            NMT's formula (Wu et al. 2016, equation 14).
        timed: whether the text has timestamps.
    """

    clip: int
    prompt: tuple[int, ...]
    temperature: float
    seed: int
    end_timestamp: int
    is_cancelled: Callable[[], bool]
    beam_size: int = 1
    best_of: int = 1
    patience: float = 1.0
    length_penalty: float | None = None
    timed: bool = True

    @property
    def group(self) -> int:
        """Rows of the batch that the search takes."""
        return self.beam_size if self.temperature == 0 else self.best_of


@dataclass(frozen=True)
class Hypothesis:
    """A decoded text.

    Attributes:
        tokens: text and timestamps, without the end token.
        logprobs: natural log of each token's probability.
        avg_logprob: their mean, the end token counted, as openai-whisper has it.
        no_speech_prob: probability that the clip holds no speech, at the start token.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    avg_logprob: float
    no_speech_prob: float
    temperature: float


@dataclass(frozen=True)
class Limits:
    """The token that ends a text, and the positions that a sequence may take."""

    end_of_text: int
    positions: int


@dataclass
class Text:
    """A text while it grows; `total_logprob` counts the end token, which isn't in `tokens`."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    total_logprob: float = 0.0
    ended: bool = False

    def append(self, token: int, logprob: float) -> None:
        """Adds a token."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.total_logprob += logprob

    def end(self, logprob: float) -> None:
        """Ends the text with the end token."""
        self.total_logprob += logprob
        self.ended = True

    def followed_by(self, token: int, logprob: float) -> Text:
        """A copy with one more token."""
        total = self.total_logprob + logprob
        return Text([*self.tokens, token], [*self.logprobs, logprob], total)


class Search(ABC):
    """The search for one clip's text."""

    def __init__(self, task: DecodingTask, limits: Limits) -> None:
        self.task = task
        self.limits = limits
        self.no_speech_prob = 0.0
        self.ended = False
        self._cancelled = False

    @property
    @abstractmethod
    def texts(self) -> Sequence[Text]:
        """What each of the group's rows has said so far."""

    @abstractmethod
    def advance(self, scores: Floats, normalisers: Floats) -> Sequence[int] | None:
        """Chooses the next tokens.

        scores: float32, (group, vocab), minus infinity where forbidden; normalisers: (group,), log
        Σ exp of each row. Returns, for each row, which of the old rows it continues; None: its own.
        """

    @abstractmethod
    def candidates(self) -> Sequence[Text]:
        """The texts among which the answer is."""

    def cancel(self) -> None:
        """Ends the search without an answer."""
        self._cancelled = True
        self.ended = True

    def hypothesis(self) -> Hypothesis | None:
        """The best text; None if cancelled."""
        if self._cancelled:
            return None
        best = max(self.candidates(), key=self._rank)
        return Hypothesis(
            tokens=tuple(best.tokens),
            logprobs=tuple(best.logprobs),
            avg_logprob=best.total_logprob / (len(best.tokens) + 1),
            no_speech_prob=self.no_speech_prob,
            temperature=self.task.temperature,
        )

    def _rank(self, text: Text) -> float:
        length, alpha = len(text.tokens), self.task.length_penalty
        penalty = max(1, length) if alpha is None else ((5 + length) / 6) ** alpha
        return text.total_logprob / penalty

    def _is_full(self, text: Text) -> bool:
        return len(self.task.prompt) + len(text.tokens) > self.limits.positions


class Walk(Search):
    """Rows that go their ways alone: one with the likeliest tokens, or several with drawn ones."""

    def __init__(self, task: DecodingTask, limits: Limits) -> None:
        super().__init__(task, limits)
        self._texts = [Text() for _ in range(task.group)]
        self._random = np.random.default_rng(task.seed)

    @property
    def texts(self) -> Sequence[Text]:
        """What each of the group's rows has said so far."""
        return self._texts

    def advance(self, scores: Floats, normalisers: Floats) -> None:
        """Adds a token to each text that goes on."""
        for text, own, total in zip(self._texts, scores, normalisers, strict=True):
            if not text.ended:
                self._continue(text, own, float(total))
        self.ended = all(text.ended for text in self._texts)

    def candidates(self) -> Sequence[Text]:
        """All of them."""
        return self._texts

    def _continue(self, text: Text, scores: Floats, total: float) -> None:
        if not np.isfinite(total):
            text.ended = True
            return
        token = self._pick(scores)
        logprob = float(scores[token]) - total
        if token == self.limits.end_of_text:
            text.end(logprob)
            return
        text.append(token, logprob)
        text.ended = self._is_full(text) or token > self.task.end_timestamp

    def _pick(self, scores: Floats) -> int:
        if self.task.temperature == 0:
            return int(scores.argmax())
        scaled = scores.astype(np.float64) / self.task.temperature
        cumulative = np.cumsum(np.exp(scaled - scaled.max()))
        drawn = self._random.random() * cumulative[-1]
        return int(np.searchsorted(cumulative, drawn, side="right"))


class BeamSearch(Search):
    """Follows the likeliest few texts at once.

    Row i holds beam i. There is one beam before the first token; rows without a beam are idle.
    """

    def __init__(self, task: DecodingTask, limits: Limits) -> None:
        super().__init__(task, limits)
        self._beams = [Text()]
        self._finished: list[Text] = []
        self._enough = max(1, round(task.beam_size * task.patience))

    @property
    def texts(self) -> Sequence[Text]:
        """What each of the group's rows has said so far; an idle row repeats the first beam's."""
        return [*self._beams, *[self._beams[0]] * (self.task.group - len(self._beams))]

    def advance(self, scores: Floats, normalisers: Floats) -> Sequence[int]:
        """Keeps the likeliest texts among those that are one token longer."""
        beams: list[Text] = []
        sources: list[int] = []
        for _, source, token, logprob in self._extensions(scores, normalisers):
            extended = self._beams[source]
            if token == self.limits.end_of_text:
                self._finish(extended, logprob)
                continue
            beams.append(extended.followed_by(token, logprob))
            sources.append(source)
            if len(beams) == self.task.beam_size:
                break
        if beams:
            self._beams = beams
        enough = len(self._finished) >= self._enough
        self.ended = enough or not beams or self._is_full(beams[0])
        return [*sources, *[0] * (self.task.group - len(sources))]

    def candidates(self) -> Sequence[Text]:
        """The finished texts and, where they are fewer than the beams, the best unfinished ones."""
        missing = max(0, self.task.beam_size - len(self._finished))
        unfinished = sorted(self._beams, key=lambda text: text.total_logprob, reverse=True)
        return [*self._finished, *unfinished[:missing]]

    def _extensions(
        self, scores: Floats, normalisers: Floats
    ) -> list[tuple[float, int, int, float]]:
        """Total log probability, beam, token and its log probability, the likeliest first."""
        count = self.task.beam_size + 1
        found: list[tuple[float, int, int, float]] = []
        for source, (beam, own, total) in enumerate(
            zip(self._beams, scores, normalisers, strict=False)
        ):
            top = np.argpartition(own, -count)[-count:]
            for token in top[np.argsort(-own[top], kind="stable")].tolist():
                logprob = float(own[token]) - float(total)
                if np.isfinite(logprob):
                    found.append((beam.total_logprob + logprob, source, token, logprob))
        return sorted(found, key=lambda extension: extension[0], reverse=True)

    def _finish(self, text: Text, logprob: float) -> None:
        if len(self._finished) < self._enough:
            finished = Text(text.tokens, text.logprobs, text.total_logprob)
            finished.end(logprob)
            self._finished.append(finished)


def search_for(task: DecodingTask, limits: Limits) -> Search:
    """The search that a task asks for."""
    if task.temperature == 0 and task.beam_size > 1:
        return BeamSearch(task, limits)
    return Walk(task, limits)
