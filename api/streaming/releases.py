"""The releases that a live stream is heard by: chosen at its start, and kept to its end.

Only a version on trial that fails, or is withdrawn, is left: from that utterance on the stable
releases hear the stream. Each utterance is heard by one set of releases, in one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.errors import DeadlineExceeded, InferenceError, InvalidOption, ModelUnavailable
from api.priority import asked_again
from api.repository import LEAVES
from api.services.ensemble import HeardUtterance
from api.serving import ServedModels, Serving
from api.streaming.recognizer import Recognizer, patiently
from api.types import AnalysisOptions


@dataclass(frozen=True)
class Heard:
    """An utterance, and the releases that heard it."""

    utterance: HeardUtterance
    served: ServedModels


class LiveReleases:
    """One per stream."""

    def __init__(self, serving: Serving, recognizer: Recognizer, key: str) -> None:
        self._serving = serving
        self._recognizer = recognizer
        self.served = serving.choose(key)

    async def hear(self, samples: NDArray[np.float32], options: AnalysisOptions) -> Heard:
        """Hear an utterance; wait for models that are away. Raises as `Recognizer.hear`."""
        served = self.served = self._serving.current(self.served)
        if self._serving.fallback(served) is None:
            return await self._stable(samples, options)
        try:
            with self._serving.holding(served):
                heard = await self._recognizer.hear(samples, options, served)
        except (ModelUnavailable, DeadlineExceeded, InferenceError, InvalidOption) as error:
            with asked_again():
                answer = await self._stable(samples, options)
            self._serving.failed(served, error)
            self.served = answer.served
            return answer
        self._serving.answered(served, dict.fromkeys(LEAVES, "miss"))
        return Heard(heard, served)

    async def _stable(self, samples: NDArray[np.float32], options: AnalysisOptions) -> Heard:
        async def ask() -> Heard:
            served = self._serving.stable
            with self._serving.holding(served):
                return Heard(await self._recognizer.hear(samples, options, served), served)

        heard = await patiently(ask)
        self._serving.answered(heard.served, dict.fromkeys(LEAVES, "miss"))
        return heard
