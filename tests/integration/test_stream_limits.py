"""Live streams under narrow limits, when a model dies and when the service stops."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Service, run_service
from tests.integration.live_stream import (
    SPEECH_PCM,
    following,
    frames,
    of,
    refused,
    rest,
    stream,
    total_of,
    whole,
)
from tests.processes import stub_of


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with narrow limits."""
    limits = {
        "STREAM_MAX_SESSIONS": "2",
        "STREAM_IDLE_SECONDS": "1.5",
        "STREAM_RESUME_SECONDS": "1",
        "MAX_AUDIO_LENGTH": "10",
        "WATCHDOG_INTERVAL": "1",
    }
    with run_service(tmp_path_factory.mktemp("strict"), **limits) as running:
        yield running


async def settled(service: Service) -> str:
    """The metrics, once no stream is left."""
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient() as http:
        while True:
            metrics = (await http.get(f"{service.url}/metrics")).text
            if "\nvoice_analytics_streams 0.0" in metrics:
                return metrics
            assert time.monotonic() < deadline, "a stream is left"
            await asyncio.sleep(0.2)


async def test_an_idle_connection_is_closed_and_can_be_resumed(strict: Service) -> None:
    async with stream(strict, {"type": "config"}) as websocket:
        session_id = (await following(websocket, "ready"))["session_id"]
        await websocket.send(SPEECH_PCM[:64000])
        await refused(websocket, "IdleTimeout", 4408)
    async with stream(strict, {"type": "resume", "session_id": session_id}) as websocket:
        assert (await following(websocket, "resumed"))["received_bytes"] == 64000
        await websocket.send('{"type": "end"}')
        assert (await following(websocket, "summary"))["duration"] == 2.0
    await settled(strict)


async def test_a_connection_that_says_nothing_is_closed(strict: Service) -> None:
    async with stream(strict) as websocket:
        await refused(websocket, "IdleTimeout", 4408)


async def test_too_many_streams_are_refused(strict: Service) -> None:
    async with (
        stream(strict, {"type": "config"}) as first,
        stream(strict, {"type": "config"}) as second,
    ):
        await following(first, "ready")
        await following(second, "ready")
        async with stream(strict, {"type": "config"}) as third:
            await refused(third, "Overloaded", 1013)
    await settled(strict)
    async with stream(strict, {"type": "config"}) as websocket:
        assert await following(websocket, "ready")
    await settled(strict)


async def test_a_stream_whose_client_stays_away_is_summed_up(strict: Service) -> None:
    before = await settled(strict)
    async with stream(strict, {"type": "config"}) as websocket:
        session_id = (await following(websocket, "ready"))["session_id"]
        await websocket.send(SPEECH_PCM[:160000])
        await following(websocket, "ack")
        websocket.transport.abort()
    after = await settled(strict)
    name = 'voice_analytics_streams_ended_total{outcome="finished"}'
    assert total_of(after, name) == total_of(before, name) + 1
    async with stream(strict, {"type": "resume", "session_id": session_id}) as websocket:
        await refused(websocket, "NotFound", 4404)


async def test_a_stream_that_is_too_long_keeps_what_fits(strict: Service) -> None:
    async with stream(strict, {"type": "config"}) as websocket:
        await websocket.send(SPEECH_PCM)
        events = await rest(websocket)
    assert websocket.close_code == 1009
    assert events[-1]["type"] == "error" and events[-1]["details"]["limit_s"] == 10
    (summary,) = of(events, "summary")
    assert summary["duration"] == 10.0


async def test_no_word_is_lost_when_a_model_dies(strict: Service) -> None:
    data = SPEECH_PCM[: 8 * 32000]
    undisturbed = await whole(strict, frames(data))
    stub_of(strict, "whisper").kill()
    events = await whole(strict, frames(data), 0.02)
    assert [e["text"] for e in of(events, "final")] == [e["text"] for e in of(undisturbed, "final")]


async def test_a_stopping_service_says_so(strict: Service) -> None:
    """The last test of this service: it ends it."""
    async with stream(strict, {"type": "config"}) as websocket:
        await following(websocket, "ready")
        await websocket.send(SPEECH_PCM[:160000])
        await following(websocket, "ack")
        strict.process.terminate()
        await rest(websocket)
        assert websocket.close_code == 1012
    deadline = time.monotonic() + 20
    while '"finished": 1, "lost": 0' not in strict.log:
        assert time.monotonic() < deadline, "the stream was not summed up in time"
        await asyncio.sleep(0.1)
    # Triton whose python stub was killed, as above, only exits at its own timeout of a minute.
    assert await asyncio.to_thread(strict.process.wait, 90) == 0
