"""Reads a Whisper checkpoint: a Hugging Face folder, or an openai-whisper `.pt` file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import WhisperForConditionalGeneration, WhisperTokenizerFast

from export.errors import CheckpointError
from export.types import Checkpoint
from export.whisper_openai import ALIGNMENT_HEADS, load_openai_model, load_openai_tokenizer

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class WhisperCheckpoint:
    """A loaded checkpoint.

    `model` is float32 and in evaluation mode; `generation` is the raw generation_config.json, empty
    where there is none.
    """

    model: WhisperForConditionalGeneration
    tokenizer: Tokenizer
    generation: Mapping[str, Any]


def load(checkpoint: Checkpoint) -> WhisperCheckpoint:
    """Loads weights, tokenizer and generation settings.

    Raises:
        CheckpointError: the path holds no Whisper checkpoint, or an incomplete one.
    """
    if checkpoint.path.is_file():
        return _load_openai(checkpoint.path)
    return _load_huggingface(checkpoint.path)


def _load_openai(path: Path) -> WhisperCheckpoint:
    model = load_openai_model(path)
    beside = path.with_name(TOKENIZER_FILE)
    if beside.is_file():
        tokenizer = Tokenizer.from_file(str(beside))
    else:
        tokenizer = load_openai_tokenizer(model.config.vocab_size)
    heads = ALIGNMENT_HEADS.get(path.stem)
    generation: dict[str, Any] = {} if heads is None else {"alignment_heads": heads}
    return WhisperCheckpoint(model, tokenizer, generation)


def _load_huggingface(folder: Path) -> WhisperCheckpoint:
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "whisper":
        raise CheckpointError(
            f"{folder} holds a model of type {config.get('model_type')!r}, not 'whisper'"
        )
    try:
        model = WhisperForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, dtype="float32", attn_implementation="eager"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the weights in {folder} can't be loaded: {error}") from error
    generation_path = folder / "generation_config.json"
    generation = _read_json(generation_path) if generation_path.is_file() else {}
    return WhisperCheckpoint(model.eval(), _load_tokenizer(folder), generation)


def _load_tokenizer(folder: Path) -> Tokenizer:
    path = folder / TOKENIZER_FILE
    if path.is_file():
        return Tokenizer.from_file(str(path))
    try:
        return WhisperTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder} holds no {TOKENIZER_FILE}, nor the vocab.json and merges.txt to make it from"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path.parent} holds no readable {path.name}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} isn't JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} isn't a JSON object")
    return content
