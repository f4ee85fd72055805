"""What serving code forgets: dead processes, crowds, deadlines, lost callers, a second start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from api.settings import PROJECT_ROOT
from api.triton_server import shared_memory_prefix
from tests.conftest import SAMPLE, Service, environment, run_service
from tests.integration.audio_files import wav
from tests.integration.conftest import Production
from tests.integration.test_analyze import refused
from tests.processes import fork_server, stub_of, stubs, workers


def eventually(holds: Callable[[], bool], within_s: float) -> None:
    """Wait until something holds; fail the test when it doesn't in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def post(url: str, **options: str) -> httpx.Response:
    return httpx.post(
        f"{url}/audio/analyze", files={"file": SAMPLE.read_bytes()}, data=options, timeout=60
    )


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own, to be hurt."""
    with run_service(
        tmp_path_factory.mktemp("victim"),
        WATCHDOG_INTERVAL="1",
        CACHE_MEMORY_BYTES="0",  # what is in the cache needs no model, dead or alive
    ) as running:
        yield running


@pytest.mark.parametrize("model", ["whisper", "emotion", "speaker_embedding"])
def test_a_dead_stub_is_answered_at_once_and_brought_back(victim: Service, model: str) -> None:
    """Triton itself neither notices nor restarts a python stub that died."""
    stub_of(victim, model).kill()
    started = time.monotonic()
    answer = post(victim.url)
    assert time.monotonic() - started < 15
    if answer.status_code != 200:
        assert refused(answer, 503)["error"] == "ModelUnavailable"
        assert int(answer.headers["retry-after"]) >= 1
    eventually(lambda: post(victim.url).status_code == 200, within_s=60)
    assert len(stubs(victim)) == 3


def test_a_dead_server_takes_its_models_along(victim: Service) -> None:
    """One that waited for a lock it shared with the server waited for ever, with 170 MiB."""
    held = stub_of(victim, "whisper")
    before = victim.triton_pid()
    held.suspend()  # as deaf as one that waits for the lock
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not held.is_running() or held.status() == psutil.STATUS_ZOMBIE, within_s=60)
    eventually(lambda: post(victim.url).status_code == 200, within_s=60)
    assert len(stubs(victim)) == 3


def test_a_worker_that_is_slow_to_move_is_not_taken_for_a_dead_one(production: Production) -> None:
    """On a busy machine the supervisor killed healthy workers, and all that they had in hand."""
    service = production.service
    held = workers(service)
    for worker in held:
        worker.suspend()
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(post(service.url)))
    asking.start()
    time.sleep(7)
    for worker in held:
        worker.resume()
    asking.join(60)
    assert [answer.status_code for answer in answers] == [200]
    assert all(worker.is_running() for worker in held)


def test_what_workers_are_forked_from_may_die(production: Production) -> None:
    """Its workers end with it, as by SIGTERM, and as many come anew."""
    service = production.service
    before = {worker.pid for worker in workers(service)}
    fork_server(service).kill()

    def are_new() -> bool:
        now = {worker.pid for worker in workers(service)}
        return len(now) == len(before) and not now & before

    eventually(are_new, within_s=60)
    assert post(service.url).status_code == 200


def test_a_caller_that_hangs_up_stops_its_work(victim: Service) -> None:
    """Engines go on decoding for nobody (faster-whisper#984)."""
    noise = np.random.default_rng(0).normal(0, 0.3, 16_000 * 290).astype(np.float32)
    speech = np.tile(np.frombuffer(SAMPLE.read_bytes()[44:], "<i2") / 32768, 40)[: len(noise)]
    body = wav((speech + 0.001 * noise[: len(speech)]).astype(np.float32))
    boundary = b"xyz"
    head = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    payload = head + body + b"\r\n--xyz--\r\n"
    port = int(victim.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /audio/analyze HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary="
            + boundary
            + b"\r\nContent-Length: %d\r\n\r\n" % len(payload)
            + payload
        )
        eventually(lambda: _in_flight(victim) == 1, within_s=20)
    eventually(lambda: _in_flight(victim) == 0, within_s=5)
    assert '"status": 499' in victim.log or '"status":499' in victim.log


def _in_flight(service: Service) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    lines = [x for x in text.splitlines() if x.startswith("voice_analytics_analyses_in_flight")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_sigterm_finishes_what_was_accepted(tmp_path: Path) -> None:
    with run_service(tmp_path / "drained") as service:
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(post(service.url)))
        thread.start()
        eventually(lambda: _in_flight(service) == 1 or bool(answers), within_s=20)
        service.process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert answers[0].status_code == 200
        assert service.process.wait(60) == 0
    assert not psutil.pid_exists(_last_triton_pid(service))


def _last_triton_pid(service: Service) -> int:
    started = [line for line in service.log.splitlines() if "triton_started" in line]
    return int(started[-1].split('"pid": ')[1].split(",")[0])


def test_crowds_and_deadlines(tmp_path: Path) -> None:
    with run_service(
        tmp_path / "small",
        REQUEST_TIMEOUT="0.05",
        MAX_CONCURRENT_REQUESTS="1",
        MAX_UPLOAD_BYTES="2000000",
        CACHE_MEMORY_BYTES="0",
    ) as service:
        assert refused(post(service.url), 504)["error"] == "DeadlineExceeded"
        too_large = httpx.post(
            f"{service.url}/audio/analyze", files={"file": bytes(3_000_000)}, timeout=30
        )
        refused(too_large, 413)
        statuses: list[int] = []
        crowd = [
            threading.Thread(target=lambda: statuses.append(post(service.url).status_code))
            for _ in range(8)
        ]
        for caller in crowd:
            caller.start()
        for caller in crowd:
            caller.join()
        assert set(statuses) <= {429, 504}
        assert 429 in statuses


def start_expecting_failure(data_dir: Path, **settings: str) -> str:
    """Start the service; its one-line complaint."""
    done = subprocess.run(
        [sys.executable, "-c", "from api.main import start; start()"],
        cwd=PROJECT_ROOT,
        env=environment(data_dir, **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_start_says_what_is_in_the_way(service: Service, tmp_path: Path) -> None:
    port = str(httpx.URL(service.url).port)
    assert f"PORT {port}" in start_expecting_failure(tmp_path, PORT=port)
    complaint = start_expecting_failure(service.data_dir, PORT="0")
    assert "Another service already runs" in complaint
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        grpc = str(taken.getsockname()[1])
        assert f"TRITON_GRPC_PORT {grpc}" in start_expecting_failure(
            tmp_path / "b", PORT="0", TRITON_GRPC_PORT=grpc
        )
    assert httpx.get(f"{service.url}/health/ready").status_code == 200


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    assert "PORT" in start_expecting_failure(tmp_path, PORT="http")


def test_what_a_killed_service_leaves_behind_is_cleaned_up(tmp_path: Path) -> None:
    """kill -9 leaves tritonserver and its shared memory; the next start ends both."""
    data_dir = tmp_path / "killed"
    with run_service(data_dir) as service:
        orphan = service.triton_pid()
        service.process.kill()
        service.process.wait()
        assert psutil.pid_exists(orphan)
    with run_service(data_dir) as service:
        assert not psutil.pid_exists(orphan) or service.triton_pid() == orphan
        assert post(service.url).status_code == 200
        regions = set(Path("/dev/shm").glob(f"{shared_memory_prefix(data_dir / 'triton')}*"))
        assert regions
    assert not set(Path("/dev/shm").glob(f"{shared_memory_prefix(data_dir / 'triton')}*"))


def test_many_workers_share_one_triton_and_one_set_of_metrics(tmp_path: Path) -> None:
    with run_service(tmp_path / "workers", WORKERS="2") as service:
        for _ in range(6):
            assert post(service.url).status_code == 200
        text = httpx.get(f"{service.url}/metrics").text
        (line,) = [
            x
            for x in text.splitlines()
            if x.startswith("voice_analytics_requests_total") and "/audio/analyze" in x
        ]
        assert float(line.rsplit(" ", 1)[1]) == 6
