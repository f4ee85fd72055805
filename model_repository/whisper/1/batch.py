"""The clips that are decoded together, and their place in the decoder's caches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine import EncodedClips, Engine
from search import Search

Floats = NDArray[np.float32]

_SHRINK_BELOW = 2 / 3
"""Share of clips still going at which the batch is copied into a smaller one. Copying a row of
whisper-base costs about four of its steps, so a batch that loses a third of its rows earns the copy
back within ten steps."""


class Batch:
    """Searches with equally many rows each; `filler` is fed where there is nothing to read."""

    def __init__(
        self, engine: Engine, clips: EncodedClips, searches: Sequence[Search], filler: int
    ) -> None:
        self._engine = engine
        self._clips = clips
        self._searches = list(searches)
        self._filler = filler
        self._group = searches[0].task.group
        self._width = max(len(search.task.prompt) for search in searches)
        self._padding = np.array([self._width - len(s.task.prompt) for s in searches], np.int64)
        self._cache = engine.empty_cache(len(searches), self._group)

    @property
    def live(self) -> list[tuple[int, Search]]:
        """Searches that go on, with their place in the caches."""
        return [(index, search) for index, search in enumerate(self._searches) if not search.ended]

    def read_prompts(self, start: int) -> tuple[Floats, Floats]:
        """Reads all prompts.

        Returns logits (clips, vocab) after each prompt's token `start`, and (clips, group, vocab)
        after its last.
        """
        count = len(self._searches)
        tokens = np.full((count, self._group, self._width), self._filler, np.int64)
        for rows, search, padding in zip(tokens, self._searches, self._padding, strict=True):
            rows[:, padding:] = search.task.prompt
        starts = (tokens[:, 0] == start).argmax(axis=1)
        columns = sorted({*starts.tolist(), self._width - 1})
        logits = self._run(tokens, columns)
        return logits[np.arange(count), 0, np.searchsorted(columns, starts)], logits[:, :, -1]

    def step(self) -> Floats:
        """Reads each row's newest token: logits (clips, group, vocab)."""
        newest = [
            [text.tokens[-1] if text.tokens else self._filler for text in search.texts]
            for search in self._searches
        ]
        return self._run(np.array(newest, np.int64)[:, :, None], [0])[:, :, 0]

    def reorder(self, sources: Sequence[Sequence[int] | None]) -> None:
        """Lets the rows of each search continue others of its rows; None: their own."""
        own = list(range(self._group))
        if any(rows is not None and list(rows) != own for rows in sources):
            order = [own if rows is None else rows for rows in sources]
            self._cache = self._engine.reorder(self._cache, np.array(order, np.intp))

    def drop_cancelled(self) -> None:
        """Ends the searches whose caller is gone."""
        for _, search in self.live:
            if search.task.is_cancelled():
                search.cancel()

    def shrink(self) -> None:
        """Copies the batch into a smaller one when enough searches have ended."""
        kept = [index for index, _ in self.live]
        if not kept or len(kept) > _SHRINK_BELOW * len(self._searches):
            return
        self._clips = self._engine.select(self._clips, kept)
        self._cache = self._engine.keep(self._cache, kept)
        self._padding = self._padding[kept]
        self._searches = [self._searches[index] for index in kept]

    @property
    def size(self) -> int:
        """Searches in the caches, those that have ended among them."""
        return len(self._searches)

    def _run(self, tokens: NDArray[np.int64], positions: Sequence[int]) -> Floats:
        result = self._engine.decode(tokens, self._padding, positions, self._cache, self._clips)
        self._cache = result.cache
        return result.logits
