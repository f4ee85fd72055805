"""What decoding must know about the exported checkpoint: generation.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SAMPLE_RATE_HZ = 16_000
CLIP_SAMPLES = 480_000
"""30 s: what the encoder always sees."""

TIMESTAMP_S = 0.02
"""One step of the timestamp tokens, and one position of the encoder's output."""


@dataclass(frozen=True)
class Sizes:
    """Dimensions of the exported model; `positions` is the longest sequence of the decoder."""

    d_model: int
    heads: int
    head_dim: int
    encoder_layers: int
    decoder_layers: int
    mels: int
    vocab: int
    positions: int


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the control tokens; from `timestamp_begin`, 0.00 s, on all are timestamps."""

    end_of_text: int
    start_of_transcript: int
    start_of_previous: int
    start_of_lm: int
    translate: int
    transcribe: int
    no_speech: int
    no_timestamps: int
    timestamp_begin: int


@dataclass(frozen=True)
class Generation:
    """Sizes, special tokens and token lists of one exported checkpoint.

    Attributes:
        languages: language code → token; empty for an English-only model.
        suppress: tokens that are never chosen; `begin_suppress`: never chosen first.
        max_initial_timestamp_index: latest first timestamp, in steps of 20 ms.
    """

    sizes: Sizes
    tokens: SpecialTokens
    languages: Mapping[str, int]
    suppress: tuple[int, ...]
    begin_suppress: tuple[int, ...]
    max_initial_timestamp_index: int

    @property
    def multilingual(self) -> bool:
        """Whether the model takes a language and a task; else it knows English only."""
        return bool(self.languages)

    @property
    def max_new_tokens(self) -> int:
        """Half of the context, as in openai-whisper; the other half is the prompt's."""
        return self.sizes.positions // 2

    @staticmethod
    def read(path: Path) -> Generation:
        """Reads generation.json.

        Raises:
            OSError, ValueError, KeyError, TypeError: the file is missing or isn't the exporter's.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        return Generation(
            sizes=Sizes(**content["sizes"]),
            tokens=SpecialTokens(**content["tokens"]),
            languages=content["languages"],
            suppress=tuple(content["suppress"]),
            begin_suppress=tuple(content["begin_suppress"]),
            max_initial_timestamp_index=content["max_initial_timestamp_index"],
        )
