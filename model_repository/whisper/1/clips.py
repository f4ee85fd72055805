"""One clip and its options as a caller sends them, checked.

What is wrong with a clip is that clip's own error: `InvalidClip`. The rest of the batch goes on.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from generation import CLIP_SAMPLES, SAMPLE_RATE_HZ, Generation

DEFAULT_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""openai-whisper's ladder: the next rung is tried when a transcript looks wrong."""

_MAX_TEMPERATURES = 10
_OPTION_NAMES = frozenset(
    {"language", "task", "word_timestamps", "temperatures", "prompt", "logprobs"}
)

Task = Literal["transcribe", "translate"]


class InvalidClip(ValueError):
    """The caller's audio or options can't be used; the message says why."""


@dataclass(frozen=True)
class ClipOptions:
    """How to transcribe a clip; `language` None: detect it, `prompt`: text that came before."""

    language: str | None = None
    task: Task = "transcribe"
    word_timestamps: bool = False
    temperatures: tuple[float, ...] = DEFAULT_TEMPERATURES
    prompt: str | None = None
    logprobs: bool = False


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
        prompt=_prompt(given.get("prompt")),
        logprobs=_flag("logprobs", given.get("logprobs", False)),
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
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]


def _prompt(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidClip("prompt isn't a text")
