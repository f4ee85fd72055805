"""A real PostgreSQL and a real Redis, each started for the tests on a free port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from api.store import tables
from api.store.analyses import AnalysisFilter, AnalysisStore
from api.store.database import Database
from api.triton_server import bind

USER = "voice_analytics"
EVERYTHING = AnalysisFilter()


def free_port() -> int:
    with bind("127.0.0.1", 0, "PORT") as probe:
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen on {port}")
        time.sleep(0.05)


def binary(name: str, package: str) -> str:
    """Path of a program; tests that need it fail without it, they are never skipped."""
    # Debian keeps PostgreSQL's programs off the PATH; all of them must be of one version.
    found = [*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), shutil.which(name)]
    chosen = next((path for path in found if path is not None), None)
    if chosen is None:
        raise RuntimeError(f"{name} is missing: apt-get install {package}")
    return str(chosen)


class RedisServer:
    """redis-server without persistence; `kill` is kill -9, `stop` holds it still."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self._options = options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [binary("redis-server", "redis-server"), "--bind", "127.0.0.1"]
        command += ["--port", str(self.port), "--save", "", "--appendonly", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def run_redis(*options: str) -> Iterator[RedisServer]:
    server = RedisServer(*options)
    try:
        yield server
    finally:
        server.kill()


class PostgresServer:
    """A PostgreSQL cluster of its own; as root it runs as the user postgres, as it demands."""

    def __init__(self, folder: Path, *, max_file_bytes: int | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._limit = [] if max_file_bytes is None else ["prlimit", f"--fsize={max_file_bytes}"]
        self._as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_postgres:
            shutil.chown(folder, "postgres")
        self._run(
            "initdb", "-D", str(folder), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"
        )
        self.start()

    def start(self) -> None:
        server = [binary("postgres", "postgresql"), "-D", str(self._folder), "-p", str(self.port)]
        server += ["-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._as_postgres, *self._limit, *server], cwd="/", stdout=log, stderr=log
            )
        wait_for_port(self.port, self._process)
        while subprocess.run(  # it listens before it lets anybody in
            [binary("pg_isready", "postgresql"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        ).returncode:
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would: the log is replayed at the next start."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder))
        self._process.wait()

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{uuid4().hex[:12]}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [*self._as_postgres, binary(program, "postgresql"), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")


@contextlib.contextmanager
def run_postgres(*, max_file_bytes: int | None = None) -> Iterator[PostgresServer]:
    # Not pytest's folder: the user postgres could not reach it.
    folder = Path(tempfile.mkdtemp(prefix="voice-analytics-postgres-"))
    try:
        server = PostgresServer(folder, max_file_bytes=max_file_bytes)
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)


async def ids(store: AnalysisStore, wanted: AnalysisFilter = EVERYTHING) -> list[str]:
    """Of what is stored, newest first."""
    return [item.id for item in (await store.list(wanted, limit=100)).items]


async def rows(database: Database) -> dict[str, int]:
    """How many rows each table holds."""

    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.analyses, tables.segments, tables.speakers)
        }

    return await database.read(count)
