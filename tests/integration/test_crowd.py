"""Four workers in hard times: a crowd, lost callers, a full disk, a long day, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import digits, samples, silence, wav
from tests.integration.live_stream import total_of
from tests.integration.test_analyze import refused
from tests.integration.test_resilience import eventually
from tests.processes import stubs, workers

CLIENTS = 64
SOAK_REQUESTS = int(os.environ.get("SOAK_REQUESTS", "160"))
"""Of the test of memory; 2,000 take some minutes."""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of its own for DATA_DIR, so that it can be filled; an ordinary folder without root."""
    folder = tmp_path_factory.mktemp("small-disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs", str(folder)]
    subprocess.run(mount, capture_output=True)
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def busy(small_disk: Path) -> Iterator[Service]:
    with run_service(
        small_disk,
        WORKERS="4",
        CACHE_MEMORY_BYTES="1000000",  # a cache that fills up would look like a leak
        WATCHDOG_INTERVAL="600",
    ) as service:
        yield service


def in_flight(service: Service) -> float:
    text = httpx.get(f"{service.url}/metrics", timeout=60).text
    return total_of(text, "voice_analytics_analyses_in_flight")


def variants(clip: NDArray[np.float32], count: int) -> list[bytes]:
    """The same words, each time a little quieter: no cache knows them."""
    return [wav(clip * np.float32(0.999**n)) for n in range(count)]


async def post(http: httpx.AsyncClient, data: bytes, **options: str) -> dict[str, Any]:
    answer = await http.post("/audio/analyze", files={"file": data}, data=options)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def test_64_clients_each_get_their_own_answers(busy: Service) -> None:
    clips = digits()
    async with httpx.AsyncClient(
        base_url=busy.url, timeout=300, limits=httpx.Limits(max_connections=CLIENTS)
    ) as http:
        expected = [await post(http, wav(clip)) for clip in clips]

        async def client(number: int) -> list[dict[str, Any]]:
            mine = clips[number % len(clips)] * np.float32(0.99 - number / 1000)
            first = await post(http, wav(mine))
            second = await post(http, wav(mine), num_speakers="1", emotions="false")
            return [first, second]

        answers = await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        for number, both in enumerate(answers):
            wanted = expected[number % len(clips)]
            for answer in both:
                assert answer["transcription"] == wanted["transcription"]
                assert answer["duration"] == wanted["duration"]
            assert both[0]["emotions"] == wanted["emotions"] and both[1]["emotions"] == []
        given = {answer["id"]: answer for both in answers for answer in both}
        assert len(given) == 2 * CLIENTS
        kept = [await http.get(f"/audio/analyses/{given_id}") for given_id in given]
    for found in kept:
        assert found.status_code == 200
        assert found.json()["transcription"] == given[found.json()["id"]]["transcription"]
    assert in_flight(busy) == 0


def test_connections_cut_in_mid_upload_leave_nothing_behind(busy: Service) -> None:
    """Cut without a word and without a farewell, with little and with much of the body sent."""
    address = urlsplit(busy.url)
    size = 5_000_000
    head = (
        b"POST /audio/analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' % size
    )
    for number in range(24):
        connection = socket.create_connection((address.hostname or "", address.port or 0))
        connection.sendall(head + bytes((number % 3) * 1_500_000))
        if number % 2:  # close with a reset instead of an end
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    eventually(lambda: not _sockets_with_callers(busy), within_s=20)
    assert in_flight(busy) == 0
    assert "unexpected_error" not in busy.log
    assert httpx.post(f"{busy.url}/audio/analyze", files={"file": wav(digits()[0])}, timeout=60)


def _sockets_with_callers(service: Service) -> int:
    """Connections that workers still hold."""
    port = urlsplit(service.url).port
    held = [c for w in workers(service) for c in w.net_connections("tcp")]
    return len([c for c in held if c.laddr.port == port and c.status == "ESTABLISHED"])


def test_a_full_disk_refuses_and_recovers(busy: Service, small_disk: Path) -> None:
    """What can't be kept is answered 503; nothing is half kept, and no worker dies of it."""
    if not small_disk.is_mount():
        pytest.skip("mounting a small disk needs root")
    before = {worker.pid for worker in workers(busy)}
    with httpx.Client(base_url=busy.url, timeout=60) as http:

        def kept() -> list[str]:
            return [item["id"] for item in http.get("/audio/analyses").json()["items"]]

        def analyse(data: bytes) -> httpx.Response:
            return http.post("/audio/analyze", files={"file": data})

        clip = digits()[1]
        large = wav(np.concatenate([clip, silence(100)]))  # uploads above 1 MB lie on disk
        newest = kept()
        filling = busy.data_dir / "filling"
        with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        assert shutil.disk_usage(busy.data_dir).free < 2**16
        # What the database has in hand may take a few more.
        statuses = [analyse(data).status_code for data in variants(clip, 40)]
        assert set(statuses) <= {200, 503} and statuses[-1] == 503
        for data in (wav(clip * np.float32(0.5)), large):
            answer = analyse(data)
            assert refused(answer, 503)["error"] == "StoreUnavailable"
            assert int(answer.headers["retry-after"]) >= 1
        form = {"model": "whisper-1"}
        answer = http.post("/v1/audio/transcriptions", files={"file": large}, data=form)
        assert answer.status_code == 503 and "error" in answer.json()
        assert http.get("/metrics").status_code == 200
        assert http.get("/health/ready").status_code == 200
        assert len(kept()) == min(20, len(newest) + statuses.count(200))
        filling.unlink()
        eventually(lambda: analyse(wav(clip)).status_code == 200, within_s=20)
        assert analyse(large).status_code == 200
    assert {worker.pid for worker in workers(busy)} == before


async def test_memory_stays_flat(busy: Service) -> None:
    """From the second quarter of many requests to the last; the first warms up."""
    processes = [*workers(busy), *stubs(busy)]
    assert len(processes) == 7
    sizes: list[list[int]] = []
    few = asyncio.Semaphore(8)
    clip = digits()[2]
    async with httpx.AsyncClient(base_url=busy.url, timeout=120) as http:

        async def one(number: int) -> None:
            async with few:
                await post(http, wav(clip * np.float32(0.9 - 0.4 * number / SOAK_REQUESTS)))
                if number % 10 == 0:
                    sizes.append([process.memory_info().rss for process in processes])

        await asyncio.gather(*(one(number) for number in range(SOAK_REQUESTS)))
    quarter = len(sizes) // 4
    for number, process in enumerate(processes):
        early = median(row[number] for row in sizes[quarter : 2 * quarter])
        late = median(row[number] for row in sizes[-quarter:])
        growth = (late - early) / 2**20
        name = "api" if number < 4 else process.cmdline()[-5:]
        print(f"{name}: {early / 2**20:.1f} -> {late / 2**20:.1f} MiB")
        assert growth < 0.03 * early / 2**20 + 4, f"{name} grew by {growth:.1f} MiB"


def test_sigterm_finishes_what_four_workers_have_in_hand(busy: Service) -> None:
    """Last: it ends the service. Each answer that was under way arrives, and is kept."""
    speech = samples(SAMPLE)
    answers: list[httpx.Response] = []

    def ask(data: bytes) -> None:
        answers.append(httpx.post(f"{busy.url}/audio/analyze", files={"file": data}, timeout=120))

    callers = [threading.Thread(target=ask, args=(data,)) for data in variants(speech, 8)]
    for caller in callers:
        caller.start()
    eventually(lambda: in_flight(busy) + len(answers) == 8, within_s=60)
    under_way = 8 - len(answers)
    busy.process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(120)
    assert busy.process.wait(90) == 0
    assert under_way >= 3
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["transcription"] for answer in answers}) <= 2
    with run_service(busy.data_dir) as again:
        for answer in answers:
            kept = httpx.get(f"{again.url}/audio/analyses/{answer.json()['id']}")
            assert kept.status_code == 200
