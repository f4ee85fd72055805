"""`./dev.sh`, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.settings import PROJECT_ROOT
from tests.conftest import environment


def dev_sh(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["./dev.sh", *arguments],
        cwd=PROJECT_ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_demo_hears_the_sample_recording(tmp_path: Path) -> None:
    """The README's first command: from nothing to who said what, when and how."""
    done = dev_sh("demo", "--once", env=environment(tmp_path, PORT="0"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SPEAKER_00 +[a-z]+ \d+% +four one five nine two", done.stdout)
    assert re.search(r"SPEAKER_01 +[a-z]+ \d+% +two seven zero six", done.stdout)
    assert "2 speakers" in done.stdout
    assert "demonstration checkpoint" in done.stdout
    assert not (tmp_path / "triton" / "tritonserver.pid").exists()


def test_nothing_is_written_that_git_would_show(tmp_path: Path) -> None:
    before = _git_status()
    dev_sh("demo", "--once", env=environment(tmp_path / "data", PORT="0"))
    assert _git_status() == before


def _git_status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=PROJECT_ROOT, capture_output=True, text=True
    ).stdout


def test_an_unknown_command_is_answered_with_the_list(tmp_path: Path) -> None:
    done = dev_sh("dance", env=environment(tmp_path))
    assert done.returncode == 1
    assert "There is no command 'dance'" in done.stderr
    assert "./dev.sh COMMAND" in done.stderr


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """PostgreSQL runs as its own user, who can't see pytest's private folders."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_development_databases_start_and_stop(shared_folder: Path) -> None:
    """A real Redis and a real PostgreSQL answer, twice started is no error, and both stop."""
    redis, postgres = _free_port(), _free_port()
    env = environment(shared_folder, REDIS_PORT=str(redis), POSTGRES_PORT=str(postgres))
    try:
        for expected in ("REDIS_URL=redis://", "already runs"):
            started = dev_sh("start", env=env)
            assert started.returncode == 0, started.stderr
            assert expected in started.stderr
        assert _ask(redis, b"PING\r\n") == b"+PONG\r\n"
        # PostgreSQL answers an SSLRequest (protocol 3.0, section 55.7) with S or N.
        assert _ask(postgres, bytes([0, 0, 0, 8, 4, 210, 22, 47])) in (b"S", b"N")
    finally:
        stopped = dev_sh("stop", env=env)
    assert stopped.returncode == 0, stopped.stderr
    for port in (redis, postgres):
        with pytest.raises(ConnectionRefusedError):
            _ask(port, b"")


def _ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(question)
        return connection.recv(64)


def test_a_missing_python_is_explained(tmp_path: Path) -> None:
    """Without any Python in range the message says what to install, not `command not found`."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "printf", "cat", "sha256sum"):
        found = shutil.which(tool)
        assert found
        (tools / tool).symlink_to(found)
    copy = tmp_path / "project"
    shutil.copytree(PROJECT_ROOT / "scripts", copy / "scripts")
    shutil.copy(PROJECT_ROOT / "dev.sh", copy)
    done = subprocess.run(
        ["bash", "dev.sh", "setup"],
        cwd=copy,
        env={"PATH": str(tools), "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "sudo apt-get install python3" in done.stderr
