"""One clip and its options as a caller sends them, checked.

What is wrong with a clip is that clip's own error: `InvalidClip`. The rest of the batch goes on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from generation import CLIP_SAMPLES, SAMPLE_RATE_HZ, Generation

DEFAULT_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""openai-whisper's ladder: the next rung is tried when a transcript looks wrong."""

_MAX_TEMPERATURES = 10
_MAX_GROUP = 10
"""Most texts of one clip that are followed or drawn at once; openai-whisper's command takes 5."""

Task = Literal["transcribe", "translate"]


class InvalidClip(ValueError):
    """The caller's audio or options can't be used; the message says why."""


@dataclass(frozen=True)
class ClipOptions:
    """How to transcribe a clip.

    Attributes:
        language: None: detect it.
        prompt: text that came before the clip, or that shows how its words are spelled.
        prefix: text that the clip is known to begin with; the transcript goes on after it.
        timestamps: whether Whisper writes them; without, the text is one segment.
        logprobs: whether the answer has every token's probability.
        beam_size, patience, length_penalty: of the search at temperature 0, see `DecodingTask`.
        best_of: of the draws above 0.
    """

    language: str | None = None
    task: Task = "transcribe"
    word_timestamps: bool = False
    temperatures: tuple[float, ...] = DEFAULT_TEMPERATURES
    prompt: str | None = None
    prefix: str | None = None
    timestamps: bool = True
    logprobs: bool = False
    beam_size: int = 1
    best_of: int = 1
    patience: float = 1.0
    length_penalty: float | None = None


_OPTION_NAMES = frozenset(option.name for option in fields(ClipOptions))


@dataclass(frozen=True)
class Clip:
    """audio: float32, shape (num_samples,), 1 to 480,000 samples, 16 kHz mono, finite."""

    audio: NDArray[np.float32]
    options: ClipOptions

    @property
    def duration_s(self) -> float:
        """Length of the audio."""
        return self.audio.size / SAMPLE_RATE_HZ


def parse_clip(audio: NDArray[np.float32], options: bytes, generation: Generation) -> Clip:
    """Checks one clip and its JSON options (empty: all defaults).

    Raises:
        InvalidClip: the audio is empty, too long or not finite, or an option is unknown or wrong.
    """
    if audio.size == 0:
        raise InvalidClip("AUDIO is empty")
    if audio.size > CLIP_SAMPLES:
        raise InvalidClip(
            f"AUDIO holds {audio.size} samples, the model takes {CLIP_SAMPLES} (30 s at 16 kHz)"
        )
    if not np.isfinite(audio).all():
        raise InvalidClip("AUDIO holds samples that are not finite")
    return Clip(audio, _parse_options(options, generation))


def _parse_options(raw: bytes, generation: Generation) -> ClipOptions:
    try:
        given = json.loads(raw) if raw.strip() else {}
    except ValueError as error:
        raise InvalidClip(f"OPTIONS isn't JSON: {error}") from error
    if not isinstance(given, dict):
        raise InvalidClip("OPTIONS isn't a JSON object")
    if unknown := sorted(set(given) - _OPTION_NAMES):
        raise InvalidClip(f"unknown options: {', '.join(unknown)}")
    return ClipOptions(
        language=_language(given.get("language"), generation),
        task=_task(given.get("task", "transcribe"), generation),
        word_timestamps=_flag("word_timestamps", given.get("word_timestamps", False)),
        temperatures=_temperatures(given.get("temperatures")),
        prompt=_text("prompt", given.get("prompt")),
        prefix=_text("prefix", given.get("prefix")),
        timestamps=_flag("timestamps", given.get("timestamps", True)),
        logprobs=_flag("logprobs", given.get("logprobs", False)),
        beam_size=_group("beam_size", given.get("beam_size", 1)),
        best_of=_group("best_of", given.get("best_of", 1)),
        patience=_patience(given.get("patience", 1.0)),
        length_penalty=_length_penalty(given.get("length_penalty")),
    )


def _language(value: object, generation: Generation) -> str | None:
    if value is None:
        return None
    if not generation.multilingual:
        if value == "en":
            return "en"
        raise InvalidClip(f"language {value!r}: this model knows English only")
    if not isinstance(value, str) or value not in generation.languages:
        raise InvalidClip(f"language {value!r} isn't a code of a language that this model knows")
    return value


def _task(value: object, generation: Generation) -> Task:
    if value == "transcribe":
        return "transcribe"
    if value != "translate":
        raise InvalidClip(f"task {value!r} is neither 'transcribe' nor 'translate'")
    if not generation.multilingual:
        raise InvalidClip("task 'translate': this model knows English only")
    return "translate"


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidClip(f"{name} {value!r} is neither true nor false")
    return value


def _temperatures(value: object) -> tuple[float, ...]:
    if value is None:
        return DEFAULT_TEMPERATURES
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_TEMPERATURES:
        raise InvalidClip(f"temperatures isn't a list of 1 to {_MAX_TEMPERATURES} numbers")
    if not all(_is_temperature(entry) for entry in value):
        raise InvalidClip("temperatures holds something that isn't a number of 0 or more")
    return tuple(float(entry) for entry in value)


def _is_temperature(value: object) -> bool:
    return _is_number(value) and value >= 0  # type: ignore[operator]


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidClip(f"{name} isn't a text")


def _group(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_GROUP:
        return value
    raise InvalidClip(f"{name} {value!r} isn't a whole number of 1 to {_MAX_GROUP}")


def _patience(value: object) -> float:
    if _is_number(value) and 0 < value <= _MAX_GROUP:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InvalidClip(f"patience {value!r} isn't a number above 0 and up to {_MAX_GROUP}")


def _length_penalty(value: object) -> float | None:
    if value is None:
        return None
    if _is_number(value) and 0 <= value <= 1:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InvalidClip(f"length_penalty {value!r} isn't a number of 0 to 1")
