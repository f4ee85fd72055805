"""Keeps the embedded Triton well: a canary inference into each model notices what Triton doesn't.

Triton neither restarts nor reports a python stub that died (its readiness still says yes), and a
dead server reports nothing at all. The canary costs next to nothing under load: a model that has
answered somebody since the last look needs none.
"""

from __future__ import annotations

import threading

import numpy as np
import structlog

from api.errors import ConfigurationError, VoiceAnalyticsError
from api.services import diarization, emotion, whisper
from api.tensors import ModelSpec, Tensors
from api.triton import TritonControl
from api.triton_server import EmbeddedTriton
from api.types import SAMPLE_RATE_HZ, AnalysisOptions

log = structlog.get_logger(__name__)

CANARY_TIMEOUT_S = 10.0
"""A canary may wait behind a batch; when nothing else was answered meanwhile, the model hangs."""

_SILENCE = np.zeros((1, 2 * SAMPLE_RATE_HZ), dtype=np.float32)


def canaries() -> list[tuple[ModelSpec, Tensors]]:
    """The smallest honest request for each leaf model: two seconds of silence."""
    speech = whisper.encode(_SILENCE[0], AnalysisOptions(language="en", word_timestamps=False))
    return [
        (whisper.SPEC, speech),
        (emotion.SPEC, {emotion.AUDIO.name: _SILENCE}),
        (diarization.SPEC, {diarization.AUDIO.name: _SILENCE}),
    ]


class Watchdog(threading.Thread):
    """Looks at the server every `interval_s` seconds and repairs what it finds broken."""

    def __init__(self, server: EmbeddedTriton, interval_s: float) -> None:
        super().__init__(name="triton-watchdog", daemon=True)
        self._server = server
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._answered: dict[str, int] = {}

    def stop(self) -> None:
        """End the thread; waits for a repair under way."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._look()
            except VoiceAnalyticsError as error:
                log.error("triton_repair_failed", reason=error.message)

    def _look(self) -> None:
        if not self._server.is_running:
            log.error("triton_died", action="restart")
            self._answered.clear()
            self._server.restart()
            return
        with TritonControl(self._server.url) as control:
            for spec, inputs in canaries():
                if not self._is_well(control, spec, inputs):
                    self._repair(control, spec)

    def _is_well(self, control: TritonControl, spec: ModelSpec, inputs: Tensors) -> bool:
        answered = control.completed_requests(spec.name)
        if answered > self._answered.get(spec.name, 0):
            self._answered[spec.name] = answered
            return True
        try:
            control.infer(spec, inputs, timeout_s=CANARY_TIMEOUT_S)
        except VoiceAnalyticsError as error:
            busy = control.completed_requests(spec.name) > answered
            log.warning("canary_failed", model=spec.name, reason=type(error).__name__, busy=busy)
            return busy
        self._answered[spec.name] = control.completed_requests(spec.name)
        return True

    def _repair(self, control: TritonControl, spec: ModelSpec) -> None:
        log.error("model_died", model=spec.name, action="reload")
        self._answered.pop(spec.name, None)
        try:
            control.reload(spec.name)
        except VoiceAnalyticsError:
            log.error("model_reload_failed", model=spec.name, action="restart")
            try:
                self._server.restart()
            except ConfigurationError as error:
                log.error("triton_restart_failed", reason=error.message)
            return
        log.info("model_recovered", model=spec.name)
