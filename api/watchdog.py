"""Keeps the embedded Triton well: restarts a dead server, reloads a model whose stub died."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import structlog

from api.errors import VoiceAnalyticsError
from api.model_config import establish, serve_only, set_versions
from api.probe import Probe
from api.triton import TritonControl
from api.triton_server import EmbeddedTriton

log = structlog.get_logger(__name__)


class Watchdog(threading.Thread):
    """Looks at the server every `interval_s` seconds and repairs what it finds broken."""

    def __init__(self, server: EmbeddedTriton, repository: Path, interval_s: float) -> None:
        super().__init__(name="triton-watchdog", daemon=True)
        self._server = server
        self._repository = repository
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._probe = Probe()

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
            self._restart()
            return
        with TritonControl(self._server.url) as control:
            check = self._probe.check(control, self._stable())
            ill = [model for model, well in check.items() if not well]
            for model in ill:
                self._reload(control, model)

    def _reload(self, control: TritonControl, model: str) -> None:
        log.error("model_died", model=model, action="reload")
        try:
            set_versions(self._repository, model, [self._stable()[model]])
            control.reload(model)
        except VoiceAnalyticsError:
            log.error("model_reload_failed", model=model, action="restart")
            self._restart()
        else:
            log.info("model_recovered", model=model)

    def _restart(self) -> None:
        """With the stable versions alone: what is on trial may be what the server died of."""
        serve_only(self._repository, self._stable())
        self._server.restart()

    def _stable(self) -> Mapping[str, str]:
        return establish(self._repository).versions
