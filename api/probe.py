"""Are the models well? A canary inference notices what Triton's readiness doesn't.

Triton neither notices nor reports a python stub that died: its readiness still says yes. The canary
costs nothing under load, since a model that has answered anybody since the last look needs none;
so many workers probing one Triton cause no more canaries than one does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import numpy as np
import structlog

from api.errors import VoiceAnalyticsError
from api.services import emotion, speaker_embedding, whisper
from api.tensors import ModelSpec, Tensors
from api.triton import TritonControl
from api.types import SAMPLE_RATE_HZ, AnalysisOptions

log = structlog.get_logger(__name__)

CANARY_TIMEOUT_S = 60.0
"""A canary may wait behind a batch, and a full batch of a large Whisper on a CPU takes most of a
minute. Only when nobody was answered meanwhile does the model hang; a dead one fails at once."""


def canaries() -> list[tuple[ModelSpec, Tensors]]:
    """The smallest honest request for each leaf model: two seconds of silence."""
    silence = np.zeros((1, 2 * SAMPLE_RATE_HZ), dtype=np.float32)
    speech = whisper.encode(silence[0], AnalysisOptions(language="en", word_timestamps=False))
    return [
        (whisper.SPEC, speech),
        (emotion.SPEC, {emotion.AUDIO.name: silence}),
        (speaker_embedding.SPEC, {speaker_embedding.AUDIO.name: silence}),
    ]


class Probe:
    """Remembers how many requests each model had answered at the last look."""

    def __init__(self) -> None:
        self._answered: dict[str, int] = {}
        self._canaries = canaries()

    def check(self, control: TritonControl) -> dict[str, bool]:
        """Whether each model is well, by name."""
        return {spec.name: self._is_well(control, spec, ask) for spec, ask in self._canaries}

    def _is_well(self, control: TritonControl, spec: ModelSpec, ask: Tensors) -> bool:
        answered = control.completed_requests(spec.name)
        if answered > self._answered.get(spec.name, 0):
            self._answered[spec.name] = answered
            return True
        try:
            control.infer(spec, ask, timeout_s=CANARY_TIMEOUT_S)
        except VoiceAnalyticsError as error:
            busy = control.completed_requests(spec.name) > answered
            log.warning("canary_failed", model=spec.name, reason=type(error).__name__, busy=busy)
            self._answered[spec.name] = 0 if not busy else answered
            return busy
        self._answered[spec.name] = control.completed_requests(spec.name)
        return True


class HealthMonitor:
    """The models' health as of a moment ago, so that `/health` never waits for Triton."""

    def __init__(
        self, triton_url: str, interval_s: float, on_look: Callable[[Mapping[str, bool]], None]
    ) -> None:
        self._on_look = on_look
        self._control = TritonControl(triton_url)
        self._interval_s = interval_s
        self._probe = Probe()
        self.models: dict[str, bool] = {spec.name: False for spec, _ in canaries()}

    @property
    def is_ready(self) -> bool:
        return all(self.models.values())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HealthMonitor]:
        """Look once, then keep looking in the background until the block ends."""
        await self._look()
        task = asyncio.create_task(self._keep_looking(), name="health-monitor")
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._control.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._look()

    async def _look(self) -> None:
        self.models = await asyncio.to_thread(self._probe.check, self._control)
        self._on_look(self.models)
