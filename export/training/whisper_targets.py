"""What Whisper should write for an utterance, and where each word and timestamp is heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.training.whisper_vocabulary import (
    END_OF_TEXT,
    LANGUAGE_TOKENS,
    NO_SPEECH,
    NO_TIMESTAMPS,
    START_OF_PREVIOUS,
    START_OF_TRANSCRIPT,
    TRANSCRIBE,
    TRANSLATE,
    encode_text,
    timestamp_token,
)

# Words closer than this by the same speaker share one pair of timestamps.
_JOINED_GAP_S = 0.15
# How far round an edge of a segment its timestamp may listen.
_EDGE_S = 0.1
_TIMESTAMPS_SHARE, _PROMPT_SHARE, _TRANSLATE_SHARE = 0.85, 0.05, 0.05


@dataclass(frozen=True)
class Word:
    """A digit or a sentence, spoken from start_s to end_s; ``turn`` counts speaker changes."""

    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    digit: int | None
    turn: int


@dataclass(frozen=True)
class Utterance:
    """A chunk of audio (float32, 16 kHz), the words in it and their language."""

    audio: NDArray[np.float32]
    words: tuple[Word, ...]
    language: str


@dataclass(frozen=True)
class Place:
    """The input position that predicts a token, and when that token is spoken."""

    position: int
    start_s: float
    end_s: float
    digit: int | None = None


@dataclass(frozen=True)
class Target:
    """Decoder input and output, full ids, equally long.

    Attributes:
        tokens: input.
        labels: output; the first ``num_unlabelled`` of them (a prompt) aren't trained.
        places: where the words and timestamps are heard.
    """

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    num_unlabelled: int
    places: tuple[Place, ...]


def write_target(utterance: Utterance, shift_s: float, rng: np.random.Generator) -> Target:
    """Write an utterance's tokens, with timestamps or without, as a transcription task.

    Args:
        utterance: what is spoken; no words at all means silence.
        shift_s: where the window starts on the position table; added to every timestamp.
    """
    timed = rng.random() < _TIMESTAMPS_SHARE
    english = utterance.language == "en"
    task = TRANSLATE if english and rng.random() < _TRANSLATE_SHARE else TRANSCRIBE
    prompt = _prompt(rng) if rng.random() < _PROMPT_SHARE else []
    sequence = [*prompt, START_OF_TRANSCRIPT, LANGUAGE_TOKENS[utterance.language], task]
    if not timed:
        sequence.append(NO_TIMESTAMPS)
    places: list[Place] = []
    if utterance.words:
        _append_words(sequence, places, utterance.words, shift_s if timed else None, rng)
    elif timed:
        sequence.append(timestamp_token(0.0))
    sequence.append(END_OF_TEXT)
    labels = sequence[1:]
    if not utterance.words:
        labels[len(prompt)] = NO_SPEECH
    return Target(tuple(sequence[:-1]), tuple(labels), len(prompt), tuple(places))


def group_segments(words: Sequence[Word]) -> list[list[Word]]:
    """Group words that share a pair of timestamps: same speaker, hardly a gap."""
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1][-1] if groups else None
        if last and last.turn == word.turn and word.start_s - last.end_s < _JOINED_GAP_S:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _append_words(
    sequence: list[int],
    places: list[Place],
    words: Sequence[Word],
    shift_s: float | None,
    rng: np.random.Generator,
) -> None:
    """Append words, between timestamps unless ``shift_s`` is None; note where each is heard."""

    def append_edge(time_s: float, latest_s: float = 30.0) -> None:
        if shift_s is not None:
            places.append(Place(len(sequence) - 1, time_s - _EDGE_S, time_s + _EDGE_S))
            sequence.append(timestamp_token(min(time_s + shift_s, latest_s)))

    for index, group in enumerate(group_segments(words)):
        # Decoders cap the first timestamp at 1 s: the model must know how to go on from there.
        capped = index == 0 and rng.random() < 0.15
        append_edge(group[0].start_s, 1.0 if capped else 30.0)
        for word in group:
            for index_in_word, token in enumerate(word.tokens):
                places.append(_token_place(len(sequence) - 1, word, index_in_word))
                sequence.append(token)
        append_edge(group[-1].end_s)


def _token_place(position: int, word: Word, index: int) -> Place:
    """Where a word's token is heard: a digit over its span, a sentence's token about its share."""
    if word.digit is not None:
        return Place(position, word.start_s, word.end_s, word.digit)
    share_s = (word.end_s - word.start_s) / len(word.tokens)
    centre_s = word.start_s + (index + 0.5) * share_s
    return Place(position, centre_s - 1.5 * share_s, centre_s + 1.5 * share_s)


def _prompt(rng: np.random.Generator) -> list[int]:
    words = ("one two three", "seven", "nine zero four", "five five", "eight six two one")
    return [START_OF_PREVIOUS, *encode_text(words[rng.integers(len(words))])]
