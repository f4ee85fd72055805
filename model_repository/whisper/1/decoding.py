"""Decodes a whole batch of clips token by token.

Clips may have prompts of different length, temperatures of their own, and searches of their own:
the likeliest token, the best of several draws, or a beam. A clip that is done leaves the batch, so
that the rest doesn't pay for it. The numbers are openai-whisper's (`DecodingTask` in decoding.py):
the same tokens, the same log probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from batch import Batch
from engine import EncodedClips, Engine
from generation import Generation
from rules import TokenRules, log_normaliser
from search import DecodingTask, Hypothesis, Limits, Search, search_for

Floats = NDArray[np.float32]

_CANCELLATION_INTERVAL = 16
"""Steps between two questions whether the caller is still there."""


class BatchDecoder:
    """Decodes batches with one checkpoint's graphs and rules."""

    def __init__(self, engine: Engine, generation: Generation) -> None:
        self._engine = engine
        self._generation = generation
        self._rules = TokenRules(generation)
        self._limits = Limits(generation.tokens.end_of_text, generation.sizes.positions)

    def decode(
        self, encoded: EncodedClips, tasks: Sequence[DecodingTask]
    ) -> list[Hypothesis | None]:
        """Decodes every task to its end; None for those that were cancelled.

        Tasks that need equally many rows are decoded together.
        """
        searches = [search_for(task, self._limits) for task in tasks]
        for group in sorted({task.group for task in tasks}):
            self._run(encoded, [search for search in searches if search.task.group == group])
        return [search.hypothesis() for search in searches]

    def detect_languages(self, encoded: EncodedClips) -> list[Mapping[str, float]]:
        """The probability of each language for each clip; together they are 1."""
        tokens = self._generation.tokens
        start = np.full((encoded.count, 1, 1), tokens.start_of_transcript, np.int64)
        padding = np.zeros(encoded.count, np.int64)
        cache = self._engine.empty_cache(encoded.count, 1)
        logits = self._engine.decode(start, padding, [0], cache, encoded).logits[:, 0, 0]
        languages = self._generation.languages
        spoken = logits[:, list(languages.values())]
        probabilities = np.exp(spoken - log_normaliser(spoken)[:, None])
        return [dict(zip(languages, row.tolist(), strict=True)) for row in probabilities]

    def _run(self, encoded: EncodedClips, searches: Sequence[Search]) -> None:
        """Leads searches with equally many rows to their end."""
        tokens = self._generation.tokens
        clips = self._engine.select(encoded, [search.task.clip for search in searches])
        batch = Batch(self._engine, clips, searches, tokens.end_of_text)
        at_start, logits = batch.read_prompts(tokens.start_of_transcript)
        normaliser = log_normaliser(at_start)
        for search, start, total in zip(searches, at_start, normaliser, strict=True):
            search.no_speech_prob = float(np.exp(start[tokens.no_speech] - total))
        last_step = self._generation.max_new_tokens - 1
        for step in range(last_step + 1):
            if step % _CANCELLATION_INTERVAL == 0:
                batch.drop_cancelled()
            if not batch.live:
                break
            self._choose(batch, logits)
            if batch.live and step < last_step:
                batch.shrink()
                logits = batch.step()

    def _choose(self, batch: Batch, logits: Floats) -> None:
        """Lets every live search choose its next tokens."""
        live = batch.live
        if len(live) < batch.size:
            logits = logits[[index for index, _ in live]]
        own = np.ascontiguousarray(logits)  # the rules write into its rows
        rows = own.reshape(-1, own.shape[-1])
        texts = [(text.tokens, s.task.timed) for _, s in live for text in s.texts]
        self._rules.apply(rows, texts)
        normalisers = log_normaliser(rows).reshape(own.shape[:2])
        sources: list[Sequence[int] | None] = [None] * batch.size
        for (index, search), scores, totals in zip(live, own, normalisers, strict=True):
            sources[index] = search.advance(scores, totals)
        batch.reorder(sources)
