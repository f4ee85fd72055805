"""The embedded Triton in a process of its own, and an API that only knows its address."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from api.settings import PROJECT_ROOT
from api.triton_server import bind
from tests.conftest import SAMPLE, environment, run_service


def free_port() -> int:
    with bind("127.0.0.1", 0, "PORT") as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def triton(data_dir: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """The embedded Triton's process; what it watches ends with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from api.main import triton; triton()"],
        cwd=PROJECT_ROOT,
        env=environment(data_dir, TRITON_GRPC_PORT=str(port), **settings),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()  # killed, it would leave its tritonserver behind
        process.wait(60)


def test_an_api_elsewhere_uses_a_triton_that_runs_alone(tmp_path: Path) -> None:
    """SIGTERM ends the server with its tritonserver; until then the API answers from it."""
    port = free_port()
    with triton(tmp_path / "triton", port) as server:
        pid_file = tmp_path / "triton" / "triton" / "tritonserver.pid"
        while not pid_file.exists():
            assert server.poll() is None
            time.sleep(0.1)
        settings = {
            "TRITON_URL": f"ipv4:127.0.0.1:{port}",
            "MODEL_REPOSITORY": str(tmp_path / "triton" / "model_repository"),
        }
        with run_service(tmp_path / "api", **settings) as service:
            answer = httpx.post(
                f"{service.url}/audio/analyze", files={"file": SAMPLE.read_bytes()}, timeout=120
            )
            assert answer.json()["transcription"].startswith("four one five nine two")
            assert not (service.data_dir / "triton").exists()
        server.send_signal(signal.SIGTERM)
        assert server.wait(40) == 0
        assert not pid_file.exists()
