"""Quick trials of the model in training: digit strings from unheard voices, decoded greedily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.training import augment
from export.training.corpora import SAMPLE_RATE_HZ
from export.training.whisper_data import SPEECH_LEVEL, Voice, speak_digits
from export.training.whisper_features import log10_mel, normalise_log_mel
from export.training.whisper_model import TrainableWhisper
from export.training.whisper_targets import Word
from export.training.whisper_vocabulary import (
    END_OF_TEXT,
    ENGLISH,
    FIRST_TIMESTAMP,
    NO_TIMESTAMPS,
    START_OF_TRANSCRIPT,
    TRANSCRIBE,
    CompactVocabulary,
)


@dataclass(frozen=True)
class SpokenString:
    """A string of digits to be recognised: float32 audio at 16 kHz and the words in it."""

    audio: NDArray[np.float32]
    words: tuple[Word, ...]

    @property
    def digits(self) -> list[int]:
        """The digits spoken, in order."""
        return [word.digit for word in self.words if word.digit is not None]


def spoken_strings(
    voices: Sequence[Voice],
    lengths: Sequence[int],
    snr_db: float,
    seed: int,
    chunk_s: float = 30.0,
    speakers: int = 1,
    gap_s: tuple[float, float] = (0.05, 0.8),
) -> list[SpokenString]:
    """One string per entry of ``lengths``, in white noise; the voices come in turn.

    The audio ends 0.3 s after the last word.
    """
    rng = np.random.default_rng(seed)
    strings = []
    for index, length in enumerate(lengths):
        chosen = [voices[(index + turn) % len(voices)] for turn in range(speakers)]
        lead_s = float(rng.uniform(0, 0.8))
        utterance = speak_digits(chosen, length, chunk_s, rng, lead_s, gap_s)
        end = round((utterance.words[-1].end_s + 0.3) * SAMPLE_RATE_HZ)
        speech = utterance.audio[:end]
        noise = augment.coloured_noise(len(speech), rng, "white")
        noisy = augment.add_noise(speech, noise, snr_db, SPEECH_LEVEL)
        strings.append(SpokenString(noisy, utterance.words))
    return strings


def edit_distance(reference: Sequence[int], hypothesis: Sequence[int]) -> int:
    """Fewest substitutions, insertions and deletions from one sequence to the other."""
    previous = list(range(len(hypothesis) + 1))
    for row, wanted in enumerate(reference, start=1):
        current = [row]
        for column, got in enumerate(hypothesis, start=1):
            substituted = previous[column - 1] + (wanted != got)
            current.append(min(previous[column] + 1, current[-1] + 1, substituted))
        previous = current
    return previous[-1]


def greedy_tokens(
    model: TrainableWhisper,
    clips: Sequence[NDArray[np.float32]],
    window_s: float,
    vocabulary: CompactVocabulary,
    max_tokens: int,
) -> list[list[int]]:
    """Decode clips, zero-padded to ``window_s``, with timestamps: full ids up to END_OF_TEXT."""
    padded = np.zeros((len(clips), round(window_s * SAMPLE_RATE_HZ)), np.float32)
    for row, clip in enumerate(clips):
        padded[row, : len(clip)] = clip
    mel = normalise_log_mel(log10_mel(torch.from_numpy(padded)))
    encoded = model.encode(mel, torch.zeros(len(clips), dtype=torch.long))
    prompt = vocabulary.compact((START_OF_TRANSCRIPT, ENGLISH, TRANSCRIBE))
    tokens = torch.tensor([prompt] * len(clips))
    end = vocabulary.index[END_OF_TEXT]
    done = torch.zeros(len(clips), dtype=torch.bool)
    for _ in range(max_tokens):
        logits = model.decode(encoded, tokens)[0][:, -1]
        logits[:, vocabulary.index[NO_TIMESTAMPS]] = -torch.inf
        following = logits.argmax(-1)
        following[done] = end
        tokens = torch.cat((tokens, following[:, None]), 1)
        done |= following == end
        if done.all():
            break
    rows = (vocabulary.expand(row) for row in tokens[:, len(prompt) :].tolist())
    return [[token for token in row if token != END_OF_TEXT] for row in rows]


def word_error_rate(
    model: TrainableWhisper,
    strings: Sequence[SpokenString],
    window_s: float,
    vocabulary: CompactVocabulary,
    max_tokens: int = 45,
) -> float:
    """Word error rate (1.0 = all wrong) over strings that fit into ``window_s``."""
    digit_of = {vocabulary.ids[index]: digit for digit, index in enumerate(vocabulary.digits)}
    errors = 0
    for first in range(0, len(strings), 12):
        part = strings[first : first + 12]
        with torch.no_grad():
            rows = greedy_tokens(model, [s.audio for s in part], window_s, vocabulary, max_tokens)
        for string, row in zip(part, rows, strict=True):
            heard = [digit_of.get(token, -1) for token in row if token < FIRST_TIMESTAMP]
            errors += edit_distance(string.digits, heard)
    return errors / sum(len(string.words) for string in strings)
