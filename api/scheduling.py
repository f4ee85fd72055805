"""Who comes first at the processor: the event loop, the threads that compute for it, the models.

On a machine whose every core computes, whatever is to be answered soon must get a core at once. So
each of the three is told to yield to those before it: the loop only hands things on, for a few
milliseconds a request; the threads decode, look for speech and cluster, for a sixth of all time;
the models take whatever there is. With equal rights the loop waits behind everybody else's threads
(benchmarks/FINDINGS.md has both).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog
import threadpoolctl

log = structlog.get_logger(__name__)

THREADS_NICENESS: Final = 5
"""Of the threads that compute beside the event loop, above its own."""

MODELS_NICENESS: Final = 10
"""Of Triton and its models, likewise."""

_MOST_NICE: Final = 19

_PROC: Final = Path("/proc")


def audio_threads(jobs: int) -> ThreadPoolExecutor:
    """Threads that compute beside the event loop: one for each core.

    Args:
        jobs: how many long recordings are worked on at once. Each can hold a thread for seconds,
            and one is left for everybody else.
    """
    cores = os.cpu_count() or 1
    return ThreadPoolExecutor(
        max(2, cores, jobs + 1), thread_name_prefix="audio", initializer=_yield_to_the_loop
    )


def one_core_a_call() -> None:
    """Let a product of matrices stay in the thread that asks for it.

    By default it is shared out over all cores, which other requests and the models want too. For
    the speakers of a minute that takes twice the processor time and saves none of the clock's.
    """
    threadpoolctl.threadpool_limits(1, user_api="blas")


def let_models_yield(pid: int) -> None:
    """Lower a session leader's priority, before it has any threads and children to inherit it.

    Linux may share the processor out among sessions first (sched_autogroup_enabled, the default of
    most distributions). A process' own niceness counts within its session only, and between two
    sessions that of the groups: proc_pid_autogroup(5).
    """
    with contextlib.suppress(ProcessLookupError):
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, pid, min(own + MODELS_NICENESS, _MOST_NICE))
    try:
        if _group_niceness(pid) is not None:
            niceness = min((_group_niceness("self") or 0) + MODELS_NICENESS, _MOST_NICE)
            (_PROC / str(pid) / "autogroup").write_text(str(niceness))
    except (FileNotFoundError, ProcessLookupError):
        pass  # a kernel without such groups, or a process that has ended
    except OSError as error:
        log.warning("models_do_not_yield", reason=str(error))


def _group_niceness(pid: int | str) -> int | None:
    """Of the session's group. None where sessions have none: the file is there, and empty."""
    words = (_PROC / str(pid) / "autogroup").read_text().split()
    return int(words[-1]) if words else None


def _yield_to_the_loop() -> None:
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        own = os.getpriority(os.PRIO_PROCESS, 0)
        niceness = min(own + THREADS_NICENESS, _MOST_NICE)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
