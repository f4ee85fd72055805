"""Who yields to whom: told to the kernel, and to the linear algebra."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import threadpoolctl

from api import scheduling

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a thread has its niceness on Linux"
)


def test_threads_that_compute_yield_to_the_loop() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with scheduling.audio_threads(jobs=1) as threads:
        assert threads.submit(niceness).result() == min(own + scheduling.THREADS_NICENESS, 19)
    assert niceness() == os.getpriority(os.PRIO_PROCESS, 0) == own


def test_long_jobs_leave_a_thread_for_the_others() -> None:
    release = threading.Event()
    with scheduling.audio_threads(jobs=9) as threads:
        jobs = [threads.submit(release.wait, 10) for _ in range(9)]
        assert threads.submit(int).result(10) == 0
        release.set()
        assert all(job.result() for job in jobs)


def test_models_yield_within_their_session_and_between_sessions() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    models = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        scheduling.let_models_yield(models.pid)
        wanted = min(own + scheduling.MODELS_NICENESS, 19)
        assert os.getpriority(os.PRIO_PROCESS, models.pid) == wanted
        group = Path(f"/proc/{models.pid}/autogroup")
        if group.exists() and (theirs := group.read_text().split()):
            ours = Path("/proc/self/autogroup").read_text().split() or ["0"]
            assert int(theirs[-1]) == min(int(ours[-1]) + scheduling.MODELS_NICENESS, 19)
    finally:
        models.kill()
        models.wait()


@pytest.mark.parametrize(
    ("own", "models", "told"),
    [
        ("/autogroup-7 nice 3\n", "/autogroup-8 nice 0\n", "13"),
        ("/autogroup-7 nice 12\n", "/autogroup-8 nice 0\n", "19"),
        ("", "/autogroup-8 nice 0\n", "10"),  # the session of a system's first process has none
        ("", "", ""),
        ("/autogroup-7 nice 3\n", "", ""),
        (None, None, None),
    ],
)
def test_a_session_has_a_group_or_none(
    own: str | None,
    models: str | None,
    told: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As kernels answer with groups, with groups that are switched off, and built without."""
    monkeypatch.setattr(scheduling, "_PROC", tmp_path)
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        for pid, group in (("self", own), (str(process.pid), models)):
            (tmp_path / pid).mkdir()
            if group is not None:
                (tmp_path / pid / "autogroup").write_text(group)
        scheduling.let_models_yield(process.pid)
        file = tmp_path / str(process.pid) / "autogroup"
        assert (file.read_text() if file.exists() else None) == told
    finally:
        process.kill()
        process.wait()


def test_a_process_that_has_ended_is_no_error() -> None:
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait()
    scheduling.let_models_yield(ended.pid)


def test_a_product_of_matrices_stays_in_its_thread() -> None:
    before = threadpoolctl.threadpool_limits(user_api="blas")
    try:
        scheduling.one_core_a_call()
        blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        assert blas and all(pool["num_threads"] == 1 for pool in blas)
    finally:
        before.restore_original_limits()
