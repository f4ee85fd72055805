"""The embedded default: NVIDIA's own tritonserver from the nvidia-pytriton wheel.

Only the wheel's files are used (the server binary, the python backend and its stubs), not
PyTriton's API. The server is a child process; `api.watchdog` keeps it well.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil
import structlog

from api import arenas, tracing
from api.errors import ConfigurationError
from api.model_config import pinned_ensembles
from api.repository import ENSEMBLE, LEAVES
from api.scheduling import let_models_yield
from api.settings import PROJECT_ROOT
from api.triton import TritonControl

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 300.0
"""A full-size Whisper takes tens of seconds to load from a cold disk."""

STOP_TIMEOUT_S = 15
"""How long SIGTERM lets work in flight finish. The API has finished its own by then; what is waited
for in vain is a model whose stub was killed, which Triton never counts as unloaded."""

_HARMLESS = ("CUDA", "CudaDriverHelper", "NVML", "DCGM")
"""What tritonserver complains of on a machine without a GPU."""


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the server; 0 = any free one."""

    http: int
    grpc: int
    metrics: int


class EmbeddedTriton:
    """One tritonserver process over one model repository; everything it writes is in `work_dir`."""

    def __init__(
        self,
        repository: Path,
        work_dir: Path,
        ports: Ports,
        host: str = "127.0.0.1",
        otlp_endpoint: str | None = None,
    ) -> None:
        self._otlp_endpoint = otlp_endpoint
        self._host = host
        self._repository = repository.resolve()
        self._work_dir = work_dir.resolve()
        self._wanted = ports
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._shm_prefix = shared_memory_prefix(self._work_dir)
        self.ports = ports

    @property
    def url(self) -> str:
        """Where this machine reaches its gRPC endpoint."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "") else self._host
        return f"{host}:{self.ports.grpc}"

    @property
    def log_file(self) -> Path:
        return self._work_dir / "tritonserver.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until every model is loaded.

        Raises:
            ConfigurationError: the wheel or libpython is missing, a port is taken, another server
                runs in the same folder, or a model can't be loaded; the message says what to do.
        """
        self._work_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._end_leftover()
        self.ports = _resolve(self._wanted, self._host)
        backends = prepare_backends(self._work_dir / "backends")
        with open(self.log_file, "wb") as output:
            self._process = subprocess.Popen(
                self._command(backends),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on, in order
            )
        self._pid_file.write_text(str(self._process.pid))
        let_models_yield(self._process.pid)
        self._wait_until_ready()
        log.info("triton_started", pid=self._process.pid, **asdict(self.ports))

    def stop(self) -> None:
        """Let work in flight finish, then end the server; does nothing when it isn't running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S + 5)
            except subprocess.TimeoutExpired:
                _kill_tree(self._process.pid)
                self._process.wait()
            self._process = None
            self._pid_file.unlink(missing_ok=True)
            self._clean_shared_memory()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self) -> None:
        """Bring back a server that died; it keeps its ports, since clients know them."""
        if self._process is not None:
            _kill_tree(self._process.pid)
            self._process.wait()
        self._wanted = self.ports
        self.start()

    @property
    def _pid_file(self) -> Path:
        return self._work_dir / "tritonserver.pid"

    def _command(self, backends: Path) -> list[str]:
        models = [f"--load-model={name}" for name in self._models()]
        return [
            str(_wheel_dir() / "bin" / "tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            *models,
            "--strict-readiness=false",
            f"--exit-timeout-secs={STOP_TIMEOUT_S}",
            f"--http-address={self._host}",
            f"--grpc-address={self._host}",
            f"--metrics-address={self._host}",
            f"--http-port={self.ports.http}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-port={self.ports.metrics}",
            "--metrics-config=summary_latencies=true",
            "--backend-config=python,shm-default-byte-size=16777216",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *tracing.triton_arguments(self._otlp_endpoint),
        ]

    def _models(self) -> list[str]:
        return [*LEAVES, ENSEMBLE, *pinned_ensembles(self._repository)]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with TritonControl(self.url) as control:
            while not all(control.is_ready(model) for model in self._models()):
                if not self.is_running:
                    raise ConfigurationError(
                        "The embedded Triton did not start; the end of its log says why:\n"
                        + self._log_tail()
                    )
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"The embedded Triton was not ready after {START_TIMEOUT_S:.0f} s; "
                        f"its log is {self.log_file}"
                    )
                time.sleep(0.1)

    def _log_tail(self, lines: int = 15) -> str:
        text = self.log_file.read_text(errors="replace").splitlines()
        text = [line for line in text if not any(noise in line for noise in _HARMLESS)]
        telling = [line for line in text if line.startswith("E") or "error" in line.lower()]
        return "\n".join((telling or text)[-lines:])

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = open(self._work_dir / "lock", "w")  # noqa: SIM115 - held as long as the server runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConfigurationError(
                f"Another service already runs with DATA_DIR {self._work_dir.parent}. Stop it, or "
                "give this one its own DATA_DIR (and PORT=0 TRITON_HTTP_PORT=0 TRITON_GRPC_PORT=0 "
                "TRITON_METRICS_PORT=0 for free ports)."
            ) from error
        self._lock = lock

    def _end_leftover(self) -> None:
        """A server whose parent was killed lives on: end it, it holds our ports and memory."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            pid = int(self._pid_file.read_text())
            if psutil.Process(pid).name() == "tritonserver":
                log.warning("triton_leftover_ended", pid=pid)
                _kill_tree(pid)
        self._clean_shared_memory()

    def _clean_shared_memory(self) -> None:
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):
            region.unlink(missing_ok=True)


def shared_memory_prefix(work_dir: Path) -> str:
    """Tells a server's regions in /dev/shm from those of other servers on the machine."""
    digest = hashlib.sha256(str(work_dir.resolve()).encode()).hexdigest()
    return f"voice_analytics_{digest[:10]}_"


def prepare_backends(target: Path) -> Path:
    """Lay out a backend directory: the wheel's python backend with the running Python's stub,
    and our onnxruntime backend beside it.

    Raises:
        ConfigurationError: the wheel has no stub for this Python.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = _wheel_dir() / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise ConfigurationError(f"The nvidia-pytriton wheel has no stub for Python {version}")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_wheel_dir() / "backends" / "python", target / "python")
    shutil.copy2(stub, target / "python")
    (target / "python" / stub.name).chmod(0o755)
    shutil.copytree(PROJECT_ROOT / "triton_backends", target, dirs_exist_ok=True)
    return target


def _wheel_dir() -> Path:
    try:
        distribution = importlib.metadata.distribution("nvidia-pytriton")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            "The nvidia-pytriton package, which carries tritonserver, is not installed. "
            "Run ./dev.sh setup, or set TRITON_URL to a running Triton."
        ) from error
    return Path(str(distribution.locate_file("pytriton/tritonserver")))


def _environment() -> dict[str, str]:
    """Where the stub finds shared libraries and its Python: it ignores PYTHONPATH."""
    libraries = [
        str(_wheel_dir().parent.parent / "nvidia_pytriton.libs"),
        str(Path(sys.prefix) / "lib"),
        sysconfig.get_config_var("LIBDIR"),
        os.environ.get("LD_LIBRARY_PATH", ""),
    ]
    return (
        arenas.ENVIRONMENT
        | os.environ
        | {
            "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
    )


def _resolve(wanted: Ports, host: str) -> Ports:
    """Check that the wanted ports are free; replace 0 by a free one.

    Raises:
        ConfigurationError: a port is taken.
    """
    names = ("TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
    with contextlib.ExitStack() as held:  # held together, so that no two get the same number
        ports = [
            held.enter_context(contextlib.closing(bind(host, port, name)))
            for name, port in zip(names, (wanted.http, wanted.grpc, wanted.metrics), strict=True)
        ]
        return Ports(*(s.getsockname()[1] for s in ports))


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket bound to host:port (0 = any free one).

    Raises:
        ConfigurationError: the port is taken; the message names the setting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"{setting} {port} can't be had on {host}: {error.strerror}. "
            f"Stop what uses it, or set {setting} to another port (0 takes any free one)."
        ) from error
    return bound


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family: Sequence[psutil.Process] = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)
