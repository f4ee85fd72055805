"""Decodes a whole batch of clips token by token.

Rows may have prompts of different length, and temperatures of their own. A row that has ended
leaves the batch, so that the rest doesn't pay for it. The numbers are openai-whisper's
(`DecodingTask` in decoding.py): the same tokens, the same log probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import EncodedClips, Engine
from generation import Generation
from rules import TokenRules, log_normaliser

Floats = NDArray[np.float32]

_CANCELLATION_INTERVAL = 16
"""Steps between two questions whether the caller is still there."""

_SHRINK_BELOW = 2 / 3
"""Share of rows still going at which the batch is copied into a smaller one. Copying a whisper-base
row costs about four of its steps, so a batch that loses a third of its rows earns the copy back
within ten steps."""


@dataclass(frozen=True)
class DecodingTask:
    """One row of a batch.

    Attributes:
        clip: index of its clip among the encoded ones.
        prompt: tokens that the text continues, ending with the start sequence.
        temperature: 0 takes the likeliest token, above 0 draws one.
        seed: of the draws, so that a clip's answer doesn't depend on its neighbours.
        end_timestamp: token of the audio's end; a timestamp beyond it ends the text.
        is_cancelled: asked now and then; True takes the row out without an answer.
    """

    clip: int
    prompt: tuple[int, ...]
    temperature: float
    seed: int
    end_timestamp: int
    is_cancelled: Callable[[], bool]


@dataclass(frozen=True)
class Hypothesis:
    """A decoded row.

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


class BatchDecoder:
    """Decodes batches with one checkpoint's graphs and rules."""

    def __init__(self, engine: Engine, generation: Generation) -> None:
        self._engine = engine
        self._generation = generation
        self._rules = TokenRules(generation)

    def decode(
        self, encoded: EncodedClips, tasks: Sequence[DecodingTask], start_length: int
    ) -> list[Hypothesis | None]:
        """Decodes every task to its end; None for those that were cancelled.

        start_length: tokens of the start sequence with which each prompt ends (start, language,
        task).
        """
        rows = [_Row(task) for task in tasks]
        clips = self._engine.select(encoded, [task.clip for task in tasks])
        batch = _Batch(self._engine, clips, rows, self._generation.tokens.end_of_text)
        at_start, logits = batch.read_prompts(start_length)
        normaliser = log_normaliser(at_start)
        for row, start, total in zip(rows, at_start, normaliser, strict=True):
            row.no_speech_prob = float(np.exp(start[self._generation.tokens.no_speech] - total))
        last_step = self._generation.max_new_tokens - 1
        for step in range(last_step + 1):
            if step % _CANCELLATION_INTERVAL == 0:
                batch.drop_cancelled()
            if not batch.live:
                break
            self._choose(batch, logits)
            batch.shrink()
            if batch.live and step < last_step:
                logits = batch.step()
        return [row.hypothesis() for row in rows]

    def detect_languages(self, encoded: EncodedClips) -> list[tuple[str, float]]:
        """The likeliest language of each clip, and its probability among all languages."""
        start = np.full((encoded.count, 1), self._generation.tokens.start_of_transcript, np.int64)
        padding = np.zeros(encoded.count, np.int64)
        cache = self._engine.empty_cache(encoded.count)
        logits = self._engine.decode(start, padding, [0], cache, encoded).logits[:, 0]
        languages = self._generation.languages
        spoken = logits[:, list(languages.values())]
        probabilities = np.exp(spoken - log_normaliser(spoken)[:, None])
        codes = list(languages)
        best = probabilities.argmax(axis=1)
        return [(codes[i], float(row[i])) for i, row in zip(best, probabilities, strict=True)]

    def _choose(self, batch: _Batch, logits: Floats) -> None:
        """Appends one token to every live row, and ends those that are done."""
        tokens = self._generation.tokens
        live = batch.live
        own = logits[[index for index, _ in live]]
        self._rules.apply(own, [row.tokens for _, row in live])
        normaliser = log_normaliser(own)
        for (_, row), scores, total in zip(live, own, normaliser, strict=True):
            if not np.isfinite(total):
                row.ended = True
                continue
            token = row.pick(scores)
            logprob = float(scores[token] - total)
            if token == tokens.end_of_text:
                row.end(logprob)
                continue
            row.append(token, logprob)
            too_long = len(row.task.prompt) + len(row.tokens) > self._generation.sizes.positions
            row.ended = too_long or token > row.task.end_timestamp


class _Row:
    """A row while it is decoded."""

    def __init__(self, task: DecodingTask) -> None:
        self.task = task
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.no_speech_prob = 0.0
        self.ended = False
        self._sum_logprob = 0.0
        self._cancelled = False
        self._random = np.random.default_rng(task.seed)

    def pick(self, scores: Floats) -> int:
        """The likeliest token, or at a temperature one drawn by its probability."""
        if self.task.temperature == 0:
            return int(scores.argmax())
        scaled = scores.astype(np.float64) / self.task.temperature
        cumulative = np.cumsum(np.exp(scaled - scaled.max()))
        drawn = self._random.random() * cumulative[-1]
        return int(np.searchsorted(cumulative, drawn, side="right"))

    def append(self, token: int, logprob: float) -> None:
        """Adds a token of the text."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self._sum_logprob += logprob

    def end(self, logprob: float) -> None:
        """Ends the row with the end token."""
        self._sum_logprob += logprob
        self.ended = True

    def cancel(self) -> None:
        """Ends the row without an answer."""
        self._cancelled = True
        self.ended = True

    def hypothesis(self) -> Hypothesis | None:
        """What was decoded; None if cancelled."""
        if self._cancelled:
            return None
        return Hypothesis(
            tokens=tuple(self.tokens),
            logprobs=tuple(self.logprobs),
            avg_logprob=self._sum_logprob / (len(self.tokens) + 1),
            no_speech_prob=self.no_speech_prob,
            temperature=self.task.temperature,
        )


class _Batch:
    """The rows that the caches hold, in the caches' order."""

    def __init__(
        self, engine: Engine, clips: EncodedClips, rows: Sequence[_Row], filler: int
    ) -> None:
        self._engine = engine
        self._clips = clips
        self._rows = list(rows)
        self._filler = filler
        self._width = max(len(row.task.prompt) for row in rows)
        self._padding = np.array([self._width - len(r.task.prompt) for r in rows], np.int64)
        self._cache = engine.empty_cache(len(rows))

    @property
    def live(self) -> list[tuple[int, _Row]]:
        """Rows that go on, with their place in the caches."""
        return [(index, row) for index, row in enumerate(self._rows) if not row.ended]

    def read_prompts(self, start_length: int) -> tuple[Floats, Floats]:
        """Reads all prompts: logits (rows, vocab) after the start token, and after the last."""
        tokens = np.full((len(self._rows), self._width), self._filler, np.int64)
        for line, row, padding in zip(tokens, self._rows, self._padding, strict=True):
            line[padding:] = row.task.prompt
        logits = self._run(tokens, [self._width - start_length, self._width - 1])
        return logits[:, 0], logits[:, 1]

    def step(self) -> Floats:
        """Reads each row's newest token: logits (rows, vocab)."""
        newest = [row.tokens[-1] if row.tokens else self._filler for row in self._rows]
        return self._run(np.array(newest, np.int64)[:, None], [0])[:, 0]

    def drop_cancelled(self) -> None:
        """Ends the rows whose caller is gone."""
        for _, row in self.live:
            if row.task.is_cancelled():
                row.cancel()

    def shrink(self) -> None:
        """Copies the batch into a smaller one when enough rows have ended."""
        kept = [index for index, _ in self.live]
        if not kept or len(kept) > _SHRINK_BELOW * len(self._rows):
            return
        self._clips = self._engine.select(self._clips, kept)
        self._cache = self._engine.keep(self._cache, kept)
        self._padding = self._padding[kept]
        self._rows = [self._rows[index] for index in kept]

    def _run(self, tokens: NDArray[np.int64], positions: Sequence[int]) -> Floats:
        result = self._engine.decode(tokens, self._padding, positions, self._cache, self._clips)
        self._cache = result.cache
        return result.logits
