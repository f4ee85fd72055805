"""Whisper's multilingual token ids, and the few of them that the tiny checkpoint ever sees.

Training runs on a compact vocabulary (about 1,600 ids and one that stands for all the rest); the
full 51,865 rows come back when the checkpoint is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from whisper.tokenizer import Tokenizer, get_tokenizer

from export.training.corpora import DIGIT_WORDS, EMODB_SENTENCES

# Ids of openai-whisper's multilingual tokenizer with 99 languages.
FULL_SIZE = 51_865
END_OF_TEXT = 50_257
START_OF_TRANSCRIPT = 50_258
ENGLISH = 50_259
GERMAN = 50_261
TRANSLATE = 50_358
TRANSCRIBE = 50_359
START_OF_PREVIOUS = 50_361
NO_SPEECH = 50_362
NO_TIMESTAMPS = 50_363
FIRST_TIMESTAMP = 50_364
NUM_TIMESTAMPS = 1_501
TIMESTAMP_STEP_S = 0.02

LANGUAGE_TOKENS = {"en": ENGLISH, "de": GERMAN}


@lru_cache(maxsize=1)
def openai_tokenizer() -> Tokenizer:
    """The tokenizer that openai-whisper carries, multilingual."""
    with warnings.catch_warnings():
        # openai-whisper leaves its vocabulary file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        return get_tokenizer(multilingual=True, num_languages=99, language="en", task="transcribe")


@lru_cache(maxsize=256)
def encode_text(text: str) -> tuple[int, ...]:
    """Token ids of a text as Whisper writes it after a timestamp: with a leading space."""
    return tuple(openai_tokenizer().encode(" " + text))


def timestamp_token(time_s: float) -> int:
    """The id of the timestamp nearest to a time, clipped to 0..30 s."""
    return FIRST_TIMESTAMP + min(NUM_TIMESTAMPS - 1, max(0, round(time_s / TIMESTAMP_STEP_S)))


@dataclass(frozen=True)
class CompactVocabulary:
    """The ids in use, ascending; compact index i stands for ids[i], index len(ids) for any other.

    Attributes:
        ids: full ids in use.
        index: full id to compact index.
        digits: compact indices of " zero" … " nine".
    """

    ids: tuple[int, ...]
    index: dict[int, int]
    digits: tuple[int, ...]

    @property
    def size(self) -> int:
        """Rows of the compact embedding, the shared row of unused ids included."""
        return len(self.ids) + 1

    @property
    def unused(self) -> int:
        """Compact index of the row that all unused ids share."""
        return len(self.ids)

    @property
    def first_timestamp(self) -> int:
        """Compact index of <|0.00|>; the timestamps are the last ids in use."""
        return self.index[FIRST_TIMESTAMP]

    def compact(self, tokens: Sequence[int]) -> list[int]:
        """Full ids to compact indices."""
        return [self.index[token] for token in tokens]

    def expand(self, indices: Sequence[int]) -> list[int]:
        """Compact indices to full ids; the shared index becomes END_OF_TEXT."""
        return [self.ids[i] if i < self.unused else END_OF_TEXT for i in indices]


@lru_cache(maxsize=1)
def compact_vocabulary() -> CompactVocabulary:
    """The vocabulary of English digits, EMO-DB's ten German sentences and Whisper's control tokens.

    Raises:
        ValueError: a digit isn't one token.
    """
    digits = [encode_text(word) for word in DIGIT_WORDS]
    if any(len(tokens) != 1 for tokens in digits):
        raise ValueError("each digit must be one token")
    used = {tokens[0] for tokens in digits}
    used.update(token for text in EMODB_SENTENCES.values() for token in encode_text(text))
    used.update((END_OF_TEXT, START_OF_TRANSCRIPT, ENGLISH, GERMAN, TRANSLATE, TRANSCRIBE))
    used.update((START_OF_PREVIOUS, NO_SPEECH, NO_TIMESTAMPS))
    used.update(range(FIRST_TIMESTAMP, FIRST_TIMESTAMP + NUM_TIMESTAMPS))
    ids = tuple(sorted(used))
    index = {token: i for i, token in enumerate(ids)}
    return CompactVocabulary(ids, index, tuple(index[tokens[0]] for tokens in digits))
