"""Fixtures that run the real thing: the service as a process, the embedded Triton below it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import pytest

from api.demo import wait_until_ready
from api.settings import PROJECT_ROOT
from api.triton_server import bind

SAMPLE = PROJECT_ROOT / "samples" / "conversation.wav"
_OWN = (
    "TRITON_",
    "DATABASE_",
    "REDIS_",
    "CACHE_",
    "RETENTION_",
    "API_KEYS",
    "ALLOW_",
    "KEY_",
    "CORS_",
)
FREE_PORTS = {"TRITON_HTTP_PORT": "0", "TRITON_GRPC_PORT": "0", "TRITON_METRICS_PORT": "0"}

EXPORT_ONLY = set(
    "torch transformers onnx whisper speechbrain jiwer "
    "tiktoken soundfile sklearn safetensors schemathesis".split()
)
"""What only the export environment has: ./dev.sh test makes it, `poetry install` does not."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Outside CI, a module that needs the export environment is skipped, with the reason."""
    report = yield
    missing = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing[1] in EXPORT_ONLY and "CI" not in os.environ:
        reason = f"Skipped: {missing[1]} is missing; ./dev.sh test installs it"
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, reason)
    return report


@dataclass(frozen=True)
class Service:
    """A running service: API and embedded Triton on free ports."""

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path

    @property
    def log(self) -> str:
        return (self.data_dir / "service.log").read_text(errors="replace")

    def triton_pid(self) -> int:
        return int((self.data_dir / "triton" / "tritonserver.pid").read_text())

    def triton_port(self, endpoint: Literal["http", "grpc", "metrics"]) -> int:
        """One of Triton's ports, from the service's log."""
        line, *_ = [x for x in self.log.splitlines() if "triton_started" in x]
        return int(json.loads(line)[endpoint])


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a service of its own: nothing leaks in from the developer's."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(_OWN)}
    return clean | FREE_PORTS | {"DATA_DIR": str(data_dir), "WORKERS": "1"} | settings


@contextlib.contextmanager
def run_service(data_dir: Path, **settings: str) -> Iterator[Service]:
    """Start the service as `poetry run start` does, wait until it is ready, stop it at the end."""
    with bind("127.0.0.1", 0, "PORT") as probe:
        port = probe.getsockname()[1]
    log_file = data_dir / "service.log"
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from api.main import start; start()"],
            cwd=PROJECT_ROOT,
            env=environment(data_dir, PORT=str(port), **settings),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url, log_file)
        yield Service(process, url, data_dir)
    finally:
        process.terminate()
        process.wait(90)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that leave it as they found it."""
    with run_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        yield http
