"""Which tokens may come next: Whisper's rules for timestamps, blanks and non-speech.

They are openai-whisper's (`SuppressBlank`, `SuppressTokens` and `ApplyTimestampRules` in
decoding.py): a transcript begins with a timestamp; timestamps come in pairs around text, and never
go back; where they are together likelier than any text, a timestamp it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from generation import Generation

Floats = NDArray[np.float32]


class TokenRules:
    """The rules of one checkpoint."""

    def __init__(self, generation: Generation) -> None:
        tokens = generation.tokens
        self._end_of_text = tokens.end_of_text
        self._timestamps = tokens.timestamp_begin
        self._no_timestamps = tokens.no_timestamps
        self._suppressed = np.array(sorted(generation.suppress), np.intp)
        self._suppressed_first = np.array(generation.begin_suppress, np.intp)
        self._latest_first = tokens.timestamp_begin + generation.max_initial_timestamp_index

    def apply(self, logits: Floats, texts: Sequence[tuple[Sequence[int], bool]]) -> None:
        """Sets the logits of forbidden tokens to minus infinity, in place.

        logits: float32, (rows, vocab), finite; texts: per row, the tokens decoded so far, and
        whether the text has timestamps.
        """
        logits[:, self._suppressed] = -np.inf
        for row, (tokens, timed) in zip(logits, texts, strict=True):
            if not tokens:
                row[self._suppressed_first] = -np.inf
            if timed:
                self._keep_time(row, tokens)

    def _keep_time(self, row: Floats, tokens: Sequence[int]) -> None:
        row[self._no_timestamps] = -np.inf
        if tokens:
            self._keep_pairs(row, tokens)
        else:
            row[: self._timestamps] = -np.inf
            row[self._latest_first + 1 :] = -np.inf
        self._prefer_timestamps(row)

    def _keep_pairs(self, row: Floats, tokens: Sequence[int]) -> None:
        begin = self._timestamps
        after_timestamp = tokens[-1] >= begin
        opened = after_timestamp and (len(tokens) < 2 or tokens[-2] >= begin)
        if opened:
            row[begin:] = -np.inf
            return
        if after_timestamp:
            row[: self._end_of_text] = -np.inf
            row[begin : tokens[-1]] = -np.inf
            return
        last = next((token for token in reversed(tokens) if token >= begin), None)
        if last is not None:
            row[begin : last + 1] = -np.inf

    def _prefer_timestamps(self, row: Floats) -> None:
        text, timestamps = row[: self._timestamps], row[self._timestamps :]
        likeliest = timestamps.max()
        if not np.isfinite(likeliest):
            return
        together = likeliest + np.log(np.exp(timestamps - likeliest).sum())
        if together > text.max():
            text[:] = -np.inf


def log_normaliser(logits: Floats) -> Floats:
    """log Σ exp, (rows, vocab) → (rows,); minus infinity where no logit is finite."""
    totals = np.full(len(logits), -np.inf, np.float32)
    weights = np.empty(logits.shape[1], np.float32)  # of one row: it stays in the processor's cache
    for place, row in enumerate(logits):
        highest = row.max()
        if np.isfinite(highest):
            np.exp(np.subtract(row, highest, out=weights), out=weights)
            totals[place] = highest + np.log(weights.sum())
    return totals
