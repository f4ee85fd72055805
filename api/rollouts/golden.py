"""A version's first look at real speech, before anybody is answered by it.

The version is asked about every recording of the golden folder as in an analysis, with nothing from
the cache: that warms it up with real shapes, and shows whether it answers at all. Then its answers
are compared with the stable version's, and Whisper's text with the one that is written beside the
recording. The other models aren't asked: callers would wait for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from api import audio
from api.cache import samples_digest
from api.errors import UnusableRelease, VoiceAnalyticsError
from api.pipeline import Asked, Pipeline
from api.services import whisper
from api.serving import ServedModels
from api.serving.agreement import agreement, text_of, word_error_rate, words
from api.serving.gates import Gates
from api.types import AnalysisOptions, Waveform

MAX_RECORDINGS = 20
MAX_RECORDING_S = 300.0

RECORDING_TIMEOUT_S = 120.0
"""The first runs of a fresh version are slow: graphs are optimised, caches are cold."""

WORSE = 0.1
"""By how much the word error rate against the expected text may exceed the stable version's."""


@dataclass(frozen=True)
class Golden:
    """A recording, and what is said in it where that is known."""

    name: str
    waveform: Waveform
    text: str | None


@dataclass(frozen=True)
class GoldenResult:
    """What the recordings showed; means over all of them, None without any."""

    recordings: int
    agreement: float | None
    word_error_rate: float | None
    stable_word_error_rate: float | None


@dataclass
class _Seen:
    """The fresh answer of the model in question, and how to ask another release for its own."""

    model: str
    answer: Any = None
    recompute: Callable[[ServedModels], Awaitable[Any]] | None = None

    def __call__(
        self,
        served: ServedModels,
        model: str,
        key: str,
        answer: Any,
        recompute: Callable[[ServedModels], Awaitable[Any]],
    ) -> None:
        if model == self.model:
            self.answer, self.recompute = answer, recompute


def read_folder(folder: Path) -> list[Golden]:
    """Recordings of any format that is decoded here, with `name.txt` beside `name.wav`.

    Raises:
        UnusableRelease: the folder holds none, or one can't be decoded.
    """
    found = []
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.suffix.lower() not in ("", ".txt", ".md"):
            try:
                waveform = audio.decode(path.read_bytes(), max_duration_s=MAX_RECORDING_S)
            except VoiceAnalyticsError as error:
                raise UnusableRelease(
                    f"The golden recording {path.name} can't be used: {error.message}"
                ) from error
            text = path.with_suffix(".txt")
            found.append(Golden(path.name, waveform, text.read_text() if text.exists() else None))
    if not found:
        raise UnusableRelease("The folder of golden recordings holds none")
    return found[:MAX_RECORDINGS]


async def check(
    pipeline: Pipeline,
    model: str,
    candidate: ServedModels,
    stable: ServedModels,
    recordings: Sequence[Golden],
    gates: Gates,
) -> GoldenResult:
    """Have the version answer all of them.

    Args:
        pipeline: one without a cache.
        model: the model that a version of is on trial.

    Raises:
        UnusableRelease: it fails, or its answers are too far from what they should be.
    """
    agreements: list[float] = []
    rates: list[tuple[float, float]] = []
    for golden in recordings:
        own, others = await _answers(pipeline, model, candidate, stable, golden)
        if own is None:
            continue
        _check_sanity(model, own, golden.name)
        agreements.append(agreement(model, (others, own), (stable, candidate)))
        if model == whisper.SPEC.name and golden.text:
            expected = words(golden.text)
            rates.append(
                (
                    word_error_rate(expected, words(text_of(own))),
                    word_error_rate(expected, words(text_of(others))),
                )
            )
    result = GoldenResult(
        len(recordings),
        float(np.mean(agreements)) if agreements else None,
        float(np.mean([own for own, _ in rates])) if rates else None,
        float(np.mean([others for _, others in rates])) if rates else None,
    )
    _judge(result, gates)
    return result


def _judge(result: GoldenResult, gates: Gates) -> None:
    own, stable = result.word_error_rate, result.stable_word_error_rate
    if own is not None and stable is not None and own > stable + WORSE:
        raise UnusableRelease(
            f"On the golden recordings its word error rate is {own:.3f}, the stable version's "
            f"{stable:.3f}"
        )
    asked, found = gates.agreement, result.agreement
    if asked is not None and found is not None and found < asked:
        raise UnusableRelease(
            f"On the golden recordings it agrees with the stable version to {found:.3f}; "
            f"{asked:g} is asked"
        )


async def _answers(
    pipeline: Pipeline, model: str, candidate: ServedModels, stable: ServedModels, golden: Golden
) -> tuple[Any, Any]:
    """The model's answers of both releases; None where the recording asks nothing of it."""
    seen = _Seen(model)
    digest = await asyncio.to_thread(samples_digest, golden.waveform)
    asked = Asked(golden.waveform, digest, AnalysisOptions())
    try:
        deadline = time.monotonic() + RECORDING_TIMEOUT_S
        await pipeline.ask_one(model, candidate, asked, deadline=deadline, witness=seen)
        others = await seen.recompute(stable) if seen.recompute is not None else None
    except VoiceAnalyticsError as error:
        about = ", ".join(f"{key} {value}" for key, value in error.details.items())
        raise UnusableRelease(
            f"It does not answer the golden recording {golden.name}: {error.message} ({about})"
        ) from error
    return seen.answer, others


def _check_sanity(model: str, answer: Any, name: str) -> None:
    """The same answer to each of many windows is none.

    Raises:
        UnusableRelease: it is that.
    """
    if model != whisper.SPEC.name and len(answer) > 1 and np.ptp(answer, axis=0).max() < 1e-6:
        raise UnusableRelease(f"It answers every window of {name} with the same")
