"""Model processes that outlive their tritonserver.

When tritonserver is killed, a python backend's stub sees within a second that its parent is gone,
and ends. One that waits just then for a lock that both share waits for ever, with all its memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil
import structlog

log = structlog.get_logger(__name__)

_STUB = "triton_python_backend_stub"


def end_orphans(shm_prefix: str) -> Sequence[int]:
    """End the stubs with regions of that prefix whose tritonserver is gone; returns their ids."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if not command or not command[0].endswith(_STUB):
                continue
            if any(part.startswith(shm_prefix) for part in command) and not _has_server(process):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=10)
    if found:
        log.warning("orphans_ended", pids=[process.pid for process in found])
    return [process.pid for process in found]


def _has_server(stub: psutil.Process) -> bool:
    parent = stub.parent()
    return parent is not None and parent.name() == "tritonserver"
