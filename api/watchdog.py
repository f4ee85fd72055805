"""Keeps the embedded Triton well: restarts a dead server, reloads a model whose stub died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from api.errors import VoiceAnalyticsError
from api.model_config import establish, serve_only, set_versions
from api.probe import Probe
from api.triton import TritonControl
from api.triton_server import EmbeddedTriton

log = structlog.get_logger(__name__)

ALIVE_S = 0.2
"""Between two looks whether the process is there at all; that costs nothing."""


class Watchdog(threading.Thread):
    """Looks at the models every `interval_s` seconds and repairs what it finds broken; a server
    that died is noticed at once."""

    def __init__(
        self,
        server: EmbeddedTriton,
        repository: Path,
        interval_s: float,
        after_restart: Callable[[], object],
    ) -> None:
        super().__init__(name="triton-watchdog", daemon=True)
        self._server = server
        self._repository = repository
        self._interval_s = interval_s
        self._after_restart = after_restart
        self._stopped = threading.Event()
        self._probe = Probe()

    def stop(self) -> None:
        """End the thread; waits for a repair under way."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        looked_at = time.monotonic()
        while not self._stopped.wait(min(ALIVE_S, self._interval_s)):
            try:
                if not self._server.is_running:
                    log.error("triton_died", action="restart")
                    self._restart()
                elif time.monotonic() - looked_at >= self._interval_s:
                    self._look()
                    looked_at = time.monotonic()
            except VoiceAnalyticsError as error:
                log.error("triton_repair_failed", reason=error.message)

    def _look(self) -> None:
        with TritonControl(self._server.url) as control:
            check = self._probe.check(control, self._stable())
            for model, is_well in check.items():
                if not is_well and not self._reload(control, model):
                    return  # the server is another one, or none

    def _reload(self, control: TritonControl, model: str) -> bool:
        """Bring one model back; False: only a restart could, or the server died meanwhile."""
        if not self._server.is_running:
            return False
        log.error("model_died", model=model, action="reload")
        try:
            set_versions(self._repository, model, [self._stable()[model]])
            control.reload(model)
        except VoiceAnalyticsError:
            log.error("model_reload_failed", model=model, action="restart")
            self._restart()
            return False
        log.info("model_recovered", model=model)
        return True

    def _restart(self) -> None:
        """With the stable versions alone: what is on trial may be what the server died of."""
        serve_only(self._repository, self._stable())
        self._server.restart()
        self._after_restart()

    def _stable(self) -> Mapping[str, str]:
        return establish(self._repository).versions
