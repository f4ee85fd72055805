"""Keys, bounds and origins over the real service: two workers, PostgreSQL, Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from openai import AuthenticationError, OpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.settings import PROJECT_ROOT
from tests.conftest import SAMPLE, Service, environment, run_service
from tests.integration.audio_files import samples, wav
from tests.integration.databases import PostgresServer, RedisServer, run_redis
from tests.integration.live_stream import rest
from tests.integration.test_analyze import refused
from tests.integration.test_resilience import eventually, start_expecting_failure

KEYS = {name: f"{name}-secret-0123456789" for name in "ann ben cem dot eva fay gus".split()}
SPEECH = SAMPLE.read_bytes()
PER_MINUTE = 40
PASSWORD = "tell-nobody-the-password"


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisServer]:
    with run_redis("--requirepass", PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(
    postgres: PostgresServer, broker: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service that asks for keys, and bounds each one."""
    with run_service(
        tmp_path_factory.mktemp("guarded"),
        WORKERS="2",
        API_KEYS=",".join(f"{name}:{secret}" for name, secret in KEYS.items()),
        KEY_REQUESTS_PER_MINUTE=str(PER_MINUTE),
        KEY_CONCURRENT_REQUESTS="3",
        CORS_ORIGINS="https://app.example.com",
        DATABASE_URL=postgres.new_database().replace("@", f":{PASSWORD}@"),
        REDIS_URL=broker.url.replace("//", f"//:{PASSWORD}@"),
        REDIS_TIMEOUT="2",  # a busy machine is no outage here
        WATCHDOG_INTERVAL="600",
    ) as service:
        yield service


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def analyse(service: Service, **request: Any) -> httpx.Response:
    url = f"{service.url}/audio/analyze"
    return httpx.post(url, files={"file": SPEECH}, timeout=60, **request)


def test_a_key_is_needed_and_enough(guarded: Service) -> None:
    assert refused(analyse(guarded), 401)["error"] == "AuthenticationError"
    refused(analyse(guarded, headers={"X-API-Key": "ann-secret-012345678"}), 401)
    assert analyse(guarded, headers=bearer("ann")).status_code == 200
    assert analyse(guarded, headers={"X-API-Key": KEYS["ann"]}).status_code == 200
    assert httpx.get(f"{guarded.url}/health/ready").status_code == 200
    assert httpx.get(f"{guarded.url}/docs").status_code == 200
    for path in ("/metrics", "/health", "/audio/analyses", "/nowhere"):
        refused(httpx.get(guarded.url + path), 401)


def test_openais_sdk_gives_its_key_and_knows_a_refusal(guarded: Service) -> None:
    with OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS["ann"], max_retries=0) as client:
        assert client.models.list().data
    with (
        OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        client.audio.transcriptions.create(model="whisper-1", file=SPEECH)
    assert caught.value.code == "invalid_api_key"


def test_no_body_is_asked_for_before_the_key_is_known(guarded: Service) -> None:
    """A caller that asks whether to send its upload is told no, instead of sending it in vain."""
    address = urlsplit(guarded.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(
            b"POST /audio/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.settimeout(10)
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


async def _greeting(service: Service, **request: Any) -> tuple[dict[str, Any], str | None]:
    url = service.url.replace("http", "ws") + "/audio/stream"
    async with connect(url, **request) as websocket:
        await websocket.send('{"type": "config"}')
        event: dict[str, Any] = json.loads(await websocket.recv())
        return event, websocket.subprotocol


async def test_a_stream_takes_its_key_from_a_header_or_a_subprotocol(guarded: Service) -> None:
    offered = [Subprotocol("voice-analytics"), Subprotocol(f"api-key.{KEYS['ben']}")]
    event, chosen = await _greeting(guarded, subprotocols=offered)
    assert (event["type"], chosen) == ("ready", "voice-analytics")
    event, chosen = await _greeting(guarded, additional_headers=bearer("ben"))
    assert (event["type"], chosen) == ("ready", None)


@pytest.mark.parametrize(
    "request_of, kind, code",
    [
        ({}, "AuthenticationError", 4401),
        ({"additional_headers": {"X-API-Key": "wrong"}}, "AuthenticationError", 4401),
        (
            {"subprotocols": [Subprotocol("voice-analytics"), Subprotocol("api-key.wrong")]},
            "AuthenticationError",
            4401,
        ),
        ({"origin": "http://evil.example", "additional_headers": bearer("ben")}, "Forbidden", 4403),
    ],
)
async def test_a_stream_that_is_not_let_in(
    guarded: Service, request_of: dict[str, Any], kind: str, code: int
) -> None:
    url = guarded.url.replace("http", "ws") + "/audio/stream"
    async with connect(url, **request_of) as websocket:
        events = await rest(websocket)
    assert [set(e) for e in events] == [{"type", "error", "message", "details", "request_id"}]
    assert (events[0]["error"], websocket.close_code) == (kind, code)


async def test_a_page_that_may_call_streams_too(guarded: Service) -> None:
    event, _ = await _greeting(
        guarded, origin="https://app.example.com", additional_headers=bearer("ben")
    )
    assert event["type"] == "ready"
    event, _ = await _greeting(guarded, origin=guarded.url, additional_headers=bearer("ben"))
    assert event["type"] == "ready"


async def test_a_rate_is_counted_over_all_workers(guarded: Service) -> None:
    async with httpx.AsyncClient(base_url=guarded.url, headers=bearer("cem"), timeout=60) as http:

        async def status() -> int:
            # One connection each: the kernel spreads them over the workers.
            answer = await http.get("/audio/analyses", headers={"Connection": "close"})
            return answer.status_code

        statuses: list[int] = []
        for _ in range(PER_MINUTE):  # two at a time, below the bound on those in flight
            statuses += await asyncio.gather(status(), status())
        refusal = await http.get("/audio/analyses")
        other = await http.get("/audio/analyses", headers=bearer("dot"))
    assert set(statuses) == {200, 429} and other.status_code == 200
    assert PER_MINUTE <= statuses.count(200) <= PER_MINUTE + 10  # a token comes back each 1.5 s
    assert refused(refusal, 429)["error"] == "RateLimited"
    assert 1 <= int(refusal.headers["retry-after"]) <= 2


async def test_streams_and_requests_share_the_bound_in_flight(guarded: Service) -> None:
    """Counted over both workers; what is closed makes room."""
    url = guarded.url.replace("http", "ws") + "/audio/stream"

    async def fresh(count: int) -> list[dict[str, Any]]:
        sockets = [connect(url, additional_headers=bearer("eva")) for _ in range(count)]
        opened = [await socket for socket in sockets]
        for websocket in opened:
            with contextlib.suppress(ConnectionClosed):
                await websocket.send('{"type": "config"}')
        events = [json.loads(await websocket.recv()) for websocket in opened]
        answer = await asyncio.to_thread(analyse, guarded, headers=bearer("eva"))
        for websocket in opened:
            await websocket.close()
        return [*events, {"type": str(answer.status_code)}]

    kinds = [event["type"] for event in await fresh(4)]
    assert kinds == ["ready", "ready", "ready", "error", "429"]
    await asyncio.sleep(0.5)
    assert [event["type"] for event in await fresh(2)] == ["ready", "ready", "200"]


def test_redis_gone_blocks_nobody_and_bounds_still_hold(
    guarded: Service, broker: RedisServer
) -> None:
    broker.kill()
    try:
        with httpx.Client(base_url=guarded.url, headers=bearer("fay"), timeout=60) as http:
            statuses = [http.get("/audio/analyses").status_code for _ in range(PER_MINUTE + 15)]
    finally:
        broker.start()
    assert set(statuses) == {200, 429}
    assert PER_MINUTE <= statuses.count(200) <= PER_MINUTE + 12

    def is_back() -> bool:
        httpx.get(f"{guarded.url}/audio/analyses", headers=bearer("gus"))
        return "redis_limits_recovered" in guarded.log

    eventually(is_back, within_s=20)


def in_flight(service: Service) -> dict[str, float]:
    """What is under way: analyses, and requests at each model."""
    text = httpx.get(f"{service.url}/metrics", headers=bearer("gus")).text
    found = re.findall(r"^(voice_analytics_\w+_in_flight\S*) ([0-9.]+)$", text, flags=re.M)
    return {name: float(value) for name, value in found}


def test_who_waits_for_less_is_told_so_and_nobody_works_on(guarded: Service) -> None:
    long = wav(np.tile(samples(SAMPLE), 14))  # 260 s
    answer = httpx.post(
        f"{guarded.url}/audio/analyze",
        files={"file": long},
        headers=bearer("gus") | {"X-Request-Timeout": "2"},
        timeout=60,
    )
    assert refused(answer, 504)["error"] == "DeadlineExceeded"
    eventually(lambda: set(in_flight(guarded).values()) == {0.0}, within_s=5)
    answer = analyse(guarded, headers=bearer("gus") | {"X-Request-Timeout": "soon"})
    assert "X-Request-Timeout" in refused(answer, 422)["details"]


def test_logs_name_callers_and_hold_no_secret(guarded: Service, broker: RedisServer) -> None:
    """Last: it reads what all tests above made the service say."""
    httpx.get(f"{guarded.url}/audio/analyses?api_key={KEYS['dot']}")
    analyse(guarded, headers={"X-API-Key": KEYS["dot"], "Cookie": "session=tell-nobody"})
    refused(analyse(guarded, headers={"Authorization": "Bearer tell-nobody"}), 401)
    output = guarded.log
    callers = {json.loads(line).get("caller") for line in output.splitlines() if line[0] == "{"}
    assert {"ann", "ben", "cem", "dot", "eva", "fay"} <= callers
    for secret in (*KEYS.values(), PASSWORD, "tell-nobody", 'file\\"; filename', "RIFF"):
        assert secret not in output
    metrics = httpx.get(f"{guarded.url}/metrics", headers=bearer("dot")).text
    assert 'voice_analytics_rate_limited_total{bound="rate",caller="cem"}' in metrics
    assert 'voice_analytics_rate_limited_total{bound="concurrent",caller="eva"}' in metrics
    assert 'voice_analytics_limit_failures_total{kind="redis"}' in metrics
    for secret in KEYS.values():
        assert secret not in metrics


@pytest.mark.parametrize(
    "name, value",
    [
        ("HOST", "0.0.0.0"),
        ("API_KEYS", f"ann:{PASSWORD}!"),
        ("DATABASE_URL", f"postgresql://ann:{PASSWORD}@localhost:port/db"),
        ("REDIS_URL", f"redis://:{PASSWORD}@localhost:port"),
    ],
)
def test_a_start_that_is_refused_says_why_and_shows_no_secret(
    tmp_path: Path, name: str, value: str
) -> None:
    complaint = start_expecting_failure(tmp_path, PORT="0", **{name: value})
    assert name in complaint and PASSWORD not in complaint
    assert len(complaint.strip().splitlines()) == 1


def test_the_demo_works_where_keys_are_asked_for(tmp_path: Path) -> None:
    """It sent none and ended with 401; of a hashed key nobody could have known the secret."""
    done = subprocess.run(
        [sys.executable, "-m", "api.demo", "--once"],
        cwd=PROJECT_ROOT,
        env=environment(tmp_path, PORT="0", API_KEYS=f"ann:sha256:{'0' * 64}"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "SPEAKER_00" in done.stdout
