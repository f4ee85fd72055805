"""Several Tritons behind one address: each has what serves, whichever of them is restarted when."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from api.repository import ensemble_name
from api.triton import TritonControl
from tests.conftest import run_service
from tests.integration.test_separate_triton import free_port, triton
from tests.model_versions import publish, rotated_labels
from tests.rolling import LENIENT, Crowd, Rolling, eventually

HOSTS = ("127.0.0.1", "127.0.0.2")


@dataclass(frozen=True)
class Replicas:
    """Two Tritons over one repository, and a service that asks them in turn."""

    rolling: Rolling
    folder: Path
    port: int

    def pid(self, host: str) -> int:
        return int((self.folder / host / "triton" / "tritonserver.pid").read_text())

    def have(self, versions: list[str]) -> bool:
        """Whether each of them has exactly these versions of `emotion`, and their ensembles."""
        for host in HOSTS:
            with TritonControl(f"{host}:{self.port}") as control:
                ready = [v for v in ("1", "2") if control.is_ready("emotion", v)]
                pins = [{"whisper": "1", "emotion": v, "speaker_embedding": "1"} for v in versions]
                live = all(control.is_ready(ensemble_name(pin)) for pin in pins)
            if ready != versions or not live:
                return False
        return True


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    port, repository = free_port(), tmp_path / "repository"
    shared = {"MODEL_REPOSITORY": str(repository), "WATCHDOG_INTERVAL": "5"}
    with contextlib.ExitStack() as stack:
        for host in HOSTS:
            stack.enter_context(triton(tmp_path / host, port, TRITON_HOST=host, **shared))
            with TritonControl(f"{host}:{port}") as control:
                eventually(lambda c=control: c.is_ready("voice_analytics"))  # type: ignore[misc]
        addresses = ",".join(f"{host}:{port}" for host in HOSTS)
        service = stack.enter_context(
            run_service(tmp_path / "api", TRITON_URL=f"ipv4:{addresses}", **shared)
        )
        yield Replicas(Rolling(service, repository), tmp_path, port)


def test_a_rollout_reaches_every_replica_and_those_that_are_restarted(replicas: Replicas) -> None:
    rolling = replicas.rolling
    publish(rolling.repository, "emotion", "2", rotated_labels)
    eventually(lambda: replicas.have(["1"]))
    with Crowd(rolling, 4).asking() as crowd:
        rollout = rolling.begun("emotion", version="2", weight=50, gates=LENIENT)
        rolling.until("emotion", rollout, "running")
        assert replicas.have(["1", "2"])
        os.kill(replicas.pid(HOSTS[1]), signal.SIGKILL)  # comes back with the stable one alone
        eventually(lambda: not replicas.have(["1", "2"]))
        eventually(lambda: replicas.have(["1", "2"]))
        assert rolling.get("emotion", rollout)["status"] == "running"
        url = f"{rolling.service.url}/models/emotion/rollouts/{rollout}"
        assert httpx.post(f"{url}/promote", timeout=60).json()["status"] == "promoted"
        os.kill(replicas.pid(HOSTS[0]), signal.SIGKILL)  # in the middle of what that brings
        eventually(lambda: replicas.have(["2"]))
        answered = len(crowd.versions)
        eventually(lambda: len(crowd.versions) > answered + 8)
        assert {v["emotion"] for v in crowd.versions[-4:]} == {"2"}
        back = httpx.delete(url, timeout=60).json()
        rolling.until("emotion", back["id"], "promoted")
        eventually(lambda: replicas.have(["1"]))
    crowd.check()
