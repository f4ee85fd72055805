"""Whatever is killed, and whenever: each accepted job ends, and exactly once in the store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from tests.conftest import Service, run_service
from tests.integration.databases import free_port, run_postgres
from tests.integration.jobs import analyses, ended, receiving, submit, talk
from tests.processes import workers

TALK_S = 25.0


@contextlib.contextmanager
def connected(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def one_worker(service: Service) -> psutil.Process:
    """A living worker, started anew if need be."""
    deadline = time.monotonic() + 60
    while not (found := workers(service)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0]


def wait_for_running(client: httpx.Client, ids: list[str]) -> None:
    deadline = time.monotonic() + 60
    while not any(client.get(f"/audio/jobs/{i}").json()["status"] == "running" for i in ids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_tried(client: httpx.Client, job_id: str, status: str = "enqueued") -> None:
    """Until the job's webhook was called at least once, and is in that state."""
    deadline = time.monotonic() + 60
    while True:
        webhook = client.get(f"/audio/jobs/{job_id}").json()["webhook"]
        if webhook["attempts"] and webhook["status"] == status:
            return
        assert time.monotonic() < deadline, webhook
        time.sleep(0.1)


def test_workers_triton_and_the_database_may_die_at_any_moment(tmp_path: Path) -> None:
    with (
        run_postgres() as postgres,
        run_service(
            tmp_path / "service",
            WORKERS="2",
            DATABASE_URL=postgres.new_database(),
            WATCHDOG_INTERVAL="1",
        ) as service,
        connected(service) as client,
    ):
        ids = [submit(client, talk(TALK_S, seed))["id"] for seed in range(5)]
        wait_for_running(client, ids)
        for worker in workers(service):
            worker.kill()  # both at once: nobody is left who could have noticed
        time.sleep(1.5)
        os.kill(service.triton_pid(), signal.SIGKILL)
        time.sleep(1.5)
        postgres.kill()
        time.sleep(1.5)
        postgres.start()
        time.sleep(1.5)
        one_worker(service).kill()
        found = ended(client, ids)
        assert [job["status"] for job in found] == ["succeeded"] * len(ids)
        assert sorted(analyses(client)) == sorted(ids)
        assert all(client.get(f"/audio/analyses/{i}").json()["segments"] for i in ids)
        assert list((service.data_dir / "jobs").iterdir()) == []


def test_the_whole_service_may_die_with_its_queue_in_a_file(tmp_path: Path) -> None:
    """The embedded default: no database server, no Redis, nothing but the folder survives."""
    data_dir, port = tmp_path / "service", free_port()
    hooks = {"WEBHOOK_SECRET": "s", "WEBHOOK_ALLOW_PRIVATE": "1", "WEBHOOK_RETRY_SECONDS": "3"}
    with run_service(data_dir, **hooks) as service, connected(service) as client:
        url = f"http://127.0.0.1:{port}/"
        announced = submit(client, talk(2.0, 9), webhook_url=url)["id"]
        until_tried(client, announced)
        ids = [submit(client, talk(TALK_S, seed))["id"] for seed in range(3)]
        wait_for_running(client, ids)
        os.kill(service.triton_pid(), signal.SIGKILL)
        service.process.kill()
        service.process.wait()
    with (
        receiving(port=port) as receiver,
        run_service(data_dir, **hooks) as service,
        connected(service) as client,
    ):
        found = ended(client, ids)
        assert [job["status"] for job in found] == ["succeeded"] * len(ids)
        assert sorted(analyses(client)) == sorted([*ids, announced])
        assert list((data_dir / "jobs").iterdir()) == []
        until_tried(client, announced, "delivered")
        ((_, body),) = receiver.received
        assert json.loads(body)["data"]["id"] == announced


def test_a_restart_hands_jobs_on(tmp_path: Path) -> None:
    """SIGTERM: what is running is handed back at once, and finished by whoever comes next."""
    data_dir = tmp_path / "service"
    with run_service(data_dir) as service, connected(service) as client:
        job = submit(client, talk(240.0, 1))
        wait_for_running(client, [job["id"]])
        with httpx.stream(
            "GET", f"{service.url}/audio/jobs/{job['id']}/events", timeout=30
        ) as told:
            lines = told.iter_lines()
            next(lines)
            asked_at = time.monotonic()
            service.process.terminate()
            list(lines)  # a stream of events doesn't hold up the end
        service.process.wait(30)
        assert time.monotonic() - asked_at < 15
    with run_service(data_dir) as service, connected(service) as client:
        (found,) = ended(client, [job["id"]])
        assert found["status"] == "succeeded"
        assert found["started_at"] < found["finished_at"]
        assert analyses(client) == [job["id"]]
