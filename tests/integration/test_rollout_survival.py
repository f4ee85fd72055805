"""Whoever dies meanwhile, worker, Triton or the whole service: a rollout goes on where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import psutil

from tests.conftest import run_service
from tests.model_versions import publish, rotated_labels, unloadable
from tests.processes import workers
from tests.rolling import (
    LENIENT,
    Crowd,
    Rolling,
    answered_by,
    eventually,
    recording,
    told_version,
)


def test_a_rollout_outlives_its_worker_triton_and_the_service(tmp_path: Path) -> None:
    data_dir = tmp_path / "hurt"
    with run_service(data_dir, WORKERS="2", WATCHDOG_INTERVAL="1") as service:
        rolling = Rolling(service)
        publish(rolling.repository, "emotion", "2", rotated_labels)
        rollout = rolling.begun("emotion", version="2", weight=50, gates=LENIENT)
        rolling.until("emotion", rollout, "running")
        with Crowd(rolling, 4).asking() as crowd:
            eventually(lambda: len(crowd.versions) > 4)
            os.kill(service.triton_pid(), signal.SIGKILL)
            answered = len(crowd.versions)
            eventually(lambda: len(crowd.versions) > answered + 8)
        crowd.check()
        assert rolling.get("emotion", rollout)["status"] == "running"
        for worker in workers(service):
            worker.kill()
        eventually(lambda: answered_by(rolling, "2"))
        orphans = workers(service)
        service.process.kill()
        service.process.wait()
        # they would hold the lease, and control a Triton that isn't there any more
        assert orphans and not psutil.wait_procs(orphans, 30)[1]
    publish(rolling.repository, "emotion", "9", unloadable)  # appears, and nobody asked for it
    with run_service(data_dir, WATCHDOG_INTERVAL="1") as service:
        rolling = Rolling(service)
        assert rolling.get("emotion", rollout)["status"] == "running"
        eventually(lambda: answered_by(rolling, "2"))
        url = f"{service.url}/models/emotion/rollouts/{rollout}/promote"
        assert httpx.post(url, timeout=60).json()["status"] == "promoted"
        service.process.kill()  # nothing of what a promotion brings with it is done yet
        service.process.wait()
    with run_service(data_dir) as service:
        rolling = Rolling(service)
        answer = rolling.analyze(recording()).json()
        assert told_version(answer) == answer["models"]["emotion"]["version"] == "2"
        rolling.settled("emotion", ["2"])
