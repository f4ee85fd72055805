"""Triton dies, or is told to end, with requests in flight: nobody is refused, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Service, run_service
from tests.integration.jobs import ended, submit, talk
from tests.integration.live_stream import CONVERSATION, frames, of, rest, say, stream, text_of
from tests.integration.test_resilience import eventually
from tests.live_audio import pcm

CALLERS = 8


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with run_service(
        tmp_path_factory.mktemp("restarted"),
        WORKERS="2",
        WATCHDOG_INTERVAL="1",
        CACHE_MEMORY_BYTES="0",  # what is in the cache needs no model, dead or alive
    ) as running:
        yield running


class Callers:
    """They ask on and on, each time something new."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CALLERS)]
        self.answers: list[httpx.Response] = []

    def _ask(self, number: int) -> None:
        seed = 1000 * number
        while not self._over.is_set():
            seed += 1
            self.answers.append(
                httpx.post(
                    f"{self._url}/audio/analyze", files={"file": talk(2.0, seed)}, timeout=120
                )
            )

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def repeated(service: Service) -> dict[str, float]:
    """How many calls were made again, by outcome."""
    found = {"answered": 0.0, "failed": 0.0}
    for line in httpx.get(f"{service.url}/metrics", timeout=60).text.splitlines():
        if line.startswith("voice_analytics_model_calls_repeated_total{"):
            outcome = "answered" if 'outcome="answered"' in line else "failed"
            found[outcome] += float(line.rsplit(" ", 1)[1])
    return found


def is_ready(service: Service) -> bool:
    return httpx.get(f"{service.url}/health/ready", timeout=60).status_code == 200


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_callers_and_jobs_ride_a_restart_out(victim: Service, how: signal.Signals) -> None:
    eventually(lambda: is_ready(victim), within_s=30)
    before, pid = repeated(victim), victim.triton_pid()
    with httpx.Client(base_url=victim.url, timeout=60) as client, Callers(victim.url) as callers:
        job = submit(client, talk(20.0, int(how)))["id"]
        eventually(lambda: len(callers.answers) > CALLERS, within_s=60)
        os.kill(pid, how)
        eventually(lambda: not is_ready(victim), within_s=20)  # health says what is
        assert client.get("/health/live").status_code == 200
        asked = len(callers.answers)
        eventually(lambda: len(callers.answers) > asked + 2 * CALLERS, within_s=60)
        assert victim.triton_pid() != pid
        (done,) = ended(client, [job])
    assert [a.text for a in callers.answers if a.status_code != 200] == []
    assert all(a.json()["transcription"] for a in callers.answers)
    assert done["status"] == "succeeded"
    after = repeated(victim)
    assert after["answered"] > before["answered"]
    assert after["failed"] == before["failed"]


async def test_a_live_stream_rides_a_restart_out(victim: Service) -> None:
    await asyncio.to_thread(eventually, lambda: is_ready(victim), 30)
    async with stream(victim, {"type": "config", "language": "en"}) as websocket:
        saying = asyncio.create_task(say(websocket, frames(pcm(CONVERSATION)), 0.02))
        await asyncio.sleep(1.0)
        os.kill(victim.triton_pid(), signal.SIGKILL)
        events = await rest(websocket)
        await saying
    (summary,) = of(events, "summary")
    assert text_of(events).split() == summary["transcription"].split()
    assert summary["transcription"]
    assert not of(events, "error")


def test_a_caller_in_a_hurry_does_not_wait_for_a_restart(victim: Service) -> None:
    eventually(lambda: is_ready(victim), within_s=30)
    os.kill(victim.triton_pid(), signal.SIGKILL)
    started = time.monotonic()
    answer = httpx.post(
        f"{victim.url}/audio/analyze",
        files={"file": talk(2.0, 77)},
        headers={"X-Request-Timeout": "0.5"},
        timeout=60,
    )
    assert (answer.status_code, answer.json()["error"]) == (504, "DeadlineExceeded")
    assert time.monotonic() - started < 2
