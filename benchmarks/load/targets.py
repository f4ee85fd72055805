"""Who is measured: the service or a peer, as a fresh process of its own, or any URL."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from benchmarks.load.clips import ROOT, Clip
from benchmarks.load.generator import Request

_START_TIMEOUT_S: Final = 180.0
_BOUNDARY: Final = "benchmarks-7d0f2b"

SERVICE: Final = "voice-analytics"


@dataclass(frozen=True)
class Target:
    """A server that answers, and how to ask it.

    Attributes:
        pid: the server's process, None where it runs elsewhere.
        metrics_url, triton_metrics_url: expositions, None where there is none.
        triton_url: Triton's HTTP endpoint, for leaf models.
    """

    name: str
    url: str
    headers: Mapping[str, str]
    pid: int | None
    metrics_url: str | None = None
    triton_metrics_url: str | None = None
    triton_url: str | None = None


def upload(clip: Clip, options: Mapping[str, str], headers: Mapping[str, str]) -> Request:
    """A multipart POST /audio/analyze, encoded beforehand: the generator only copies bytes."""
    parts = [
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in options.items()
    ]
    parts.append(
        f"--{_BOUNDARY}\r\ncontent-disposition: form-data; "
        'name="file"; filename="clip.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    )
    content = "".join(parts).encode() + clip.wav + f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return Request("/audio/analyze", content, {**headers, **kind}, clip.duration_s)


def raw(clip: Clip) -> Request:
    """The WAV alone, as peers take it."""
    return Request("/audio/analyze", clip.wav, {"content-type": "audio/wav"}, clip.duration_s)


def windows_for_triton(model: str, windows: NDArray[np.float32], audio_s: float) -> Request:
    """Triton's HTTP protocol with binary tensors.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
    """
    tensor = {
        "name": "AUDIO",
        "datatype": "FP32",
        "shape": list(windows.shape),
        "parameters": {"binary_data_size": windows.nbytes},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return Request(f"/v2/models/{model}/infer", head + windows.tobytes(), headers, audio_s)


def windows_for_peer(windows: NDArray[np.float32], audio_s: float) -> Request:
    """The samples alone."""
    headers = {"content-type": "application/octet-stream", "x-batch": str(len(windows))}
    return Request("/windows", windows.tobytes(), headers, audio_s)


@contextlib.contextmanager
def service(start: str, repository: Path | None, settings: Mapping[str, str]) -> Iterator[Target]:
    """The service, started with its embedded Triton on free ports, stopped at the end.

    Args:
        start: the command, by default `start` of the running environment.
        repository: the model repository; None = the bundled one.

    Raises:
        BenchmarkError: it doesn't become ready.
    """
    port, http, grpc, metrics = _free_ports(4)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as data_dir:
        own = {
            "DATA_DIR": data_dir,
            "PORT": str(port),
            "TRITON_HTTP_PORT": str(http),
            "TRITON_GRPC_PORT": str(grpc),
            "TRITON_METRICS_PORT": str(metrics),
            **({} if repository is None else {"MODEL_REPOSITORY": str(repository)}),
        }
        url = f"http://127.0.0.1:{port}"
        with _process([start], {**own, **settings}, f"{url}/health/ready", SERVICE) as pid:
            yield Target(
                SERVICE,
                url,
                {},
                pid,
                metrics_url=f"{url}/metrics",
                triton_metrics_url=f"http://127.0.0.1:{metrics}/metrics",
                triton_url=f"http://127.0.0.1:{http}",
            )


@contextlib.contextmanager
def peer(python: Path, name: str, weights: Path, cores: int) -> Iterator[Target]:
    """A peer of benchmarks/peers in its own environment.

    Raises:
        BenchmarkError: it doesn't start.
    """
    (port,) = _free_ports(1)
    module = "plain_app" if name == "in-process-fastapi" else "server"
    command = [str(python), "-m", f"benchmarks.peers.{module}"]
    command += [] if module == "plain_app" else [name]
    command += ["--port", str(port), "--cores", str(cores), "--weights", str(weights.resolve())]
    threads = {"OMP_NUM_THREADS": str(cores), "PYTHONPATH": str(ROOT)}
    url = f"http://127.0.0.1:{port}"
    with _process(command, threads, f"{url}/health", name) as pid:
        yield Target(name, url, {}, pid)


@contextlib.contextmanager
def _process(
    command: list[str], settings: Mapping[str, str], ready_url: str, name: str
) -> Iterator[int]:
    with tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log") as log:
        process = subprocess.Popen(
            command, env=os.environ | dict(settings), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
        )
        try:
            _wait(process, ready_url, name, lambda: Path(log.name).read_text(errors="replace"))
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, name: str, said: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"{name} ended while starting:\n{said()[-2000:]}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).is_success:
                return
        time.sleep(0.2)
    raise BenchmarkError(f"{name} isn't ready after {_START_TIMEOUT_S:.0f} s:\n{said()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
