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
    """Remembers how many requests each version had answered at the last look."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], int] = {}
        self._canaries = canaries()

    def check(self, control: TritonControl, versions: Mapping[str, str]) -> dict[str, bool]:
        """Whether the given version of each model is well, by the model's name."""
        return {
            spec.name: self._is_well(control, spec, ask, versions[spec.name])
            for spec, ask in self._canaries
        }

    def _is_well(self, control: TritonControl, spec: ModelSpec, ask: Tensors, version: str) -> bool:
        asked = (spec.name, version)
        answered = control.completed_requests(*asked)
        if answered > self._answered.get(asked, 0):
            self._answered[asked] = answered
            return True
        try:
            control.infer(spec, ask, timeout_s=CANARY_TIMEOUT_S, version=version)
        except VoiceAnalyticsError as error:
            busy = control.completed_requests(*asked) > answered
            log.warning("canary_failed", model=spec.name, reason=type(error).__name__, busy=busy)
            self._answered[asked] = 0 if not busy else answered
            return busy
        self._answered[asked] = control.completed_requests(*asked)
        return True


class HealthMonitor:
    """The models' health as of a moment ago, so that `/health` never waits for Triton."""

    def __init__(
        self,
        triton_url: str,
        interval_s: float,
        versions: Callable[[], Mapping[str, str]],
        on_look: Callable[[Mapping[str, bool]], None],
    ) -> None:
        """`versions` says which ones are to be well: the stable ones."""
        self._versions = versions
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
        self.models = await asyncio.to_thread(self._probe.check, self._control, self._versions())
        self._on_look(self.models)
