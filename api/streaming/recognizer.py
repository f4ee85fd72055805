"""A live utterance's way through Triton."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from api.errors import DeadlineExceeded, ModelUnavailable, Overloaded
from api.services import emotion, ensemble, whisper
from api.services.ensemble import HeardUtterance
from api.services.whisper import Transcript
from api.serving import ServedModels
from api.triton import TritonClient
from api.types import SAMPLE_RATE_HZ, AnalysisOptions, Emotion

T = TypeVar("T")

log = structlog.get_logger(__name__)

PATIENCE_S = 60.0
"""How long a stream waits for models that are away: a restarted Triton is back within seconds, and
the audio is kept meanwhile."""

_PARTIAL_TIMEOUT_S = 5.0
"""A partial that comes later tells nothing new."""


class Recognizer:
    """Utterances in, what the models make of them out."""

    def __init__(self, triton: TritonClient, timeout_s: float) -> None:
        self._triton = triton
        self._timeout_s = timeout_s

    async def hear(
        self, samples: NDArray[np.float32], options: AnalysisOptions, served: ServedModels
    ) -> HeardUtterance:
        """Text, emotion and voice of an utterance, float32, shape (n,), n ≤ 480,000, in one call.

        Raises:
            ModelUnavailable, DeadlineExceeded, InvalidOption, InferenceError: see `api.triton`.
        """
        tensors = ensemble.encode(samples, options)
        answer = await self._triton.infer(served.ensemble, tensors, timeout_s=self._timeout_s)
        return ensemble.decode(answer, len(served.emotion_labels))

    async def transcribe(
        self, samples: NDArray[np.float32], options: AnalysisOptions, served: ServedModels
    ) -> Transcript:
        """The words alone, of an utterance that still goes on. Raises as `hear`, but at once."""
        tensors = whisper.encode(samples, options)
        answer = await self._triton.infer(
            whisper.SPEC,
            tensors,
            version=served.version(whisper.SPEC.name),
            timeout_s=_PARTIAL_TIMEOUT_S,
        )
        return whisper.decode(answer)

    async def check(self, options: AnalysisOptions, served: ServedModels) -> None:
        """Have Whisper refuse what it can't do, before anybody speaks.

        Raises:
            InvalidOption: the language isn't one of Whisper's.
            ModelUnavailable, DeadlineExceeded, InferenceError: see `api.triton`.
        """
        if options.language is not None:
            tensors = whisper.encode(np.zeros(SAMPLE_RATE_HZ // 10, np.float32), options)
            await self._triton.infer(
                whisper.SPEC,
                tensors,
                version=served.version(whisper.SPEC.name),
                timeout_s=self._timeout_s,
            )

    def emotion(self, heard: HeardUtterance, served: ServedModels) -> Emotion:
        """The utterance's emotion by name."""
        return emotion.name(served.emotion_labels, heard.emotions)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the models are away or too busy, for up to `PATIENCE_S`.

    Raises:
        VoiceAnalyticsError: the last refusal, or at once one that won't get better.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except (ModelUnavailable, Overloaded) as error:
            if time.monotonic() + error.retry_after_s > until:
                raise
            log.warning("stream_waits", reason=type(error).__name__)
            await asyncio.sleep(error.retry_after_s)
        except DeadlineExceeded:
            if time.monotonic() > until:
                raise
