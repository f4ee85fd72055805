"""A WebSocket client of WS /audio/stream, and what tests ask of its events."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import samples
from tests.live_audio import pcm

CONVERSATION = samples(SAMPLE)
SPEECH_PCM = pcm(CONVERSATION)
FRAME_BYTES = 3200
"""A tenth of a second of 16-bit audio at 16 kHz, about what clients send."""

Event = dict[str, Any]


@contextlib.asynccontextmanager
async def stream(service: Service, first: Event | None = None) -> AsyncIterator[ClientConnection]:
    """A connection, after its first message."""
    url = service.url.replace("http", "ws") + "/audio/stream"
    async with connect(url, max_size=None, ping_timeout=None) as websocket:
        if first is not None:
            await websocket.send(json.dumps(first))
        yield websocket


async def following(websocket: ClientConnection, kind: str) -> Event:
    """The next event of a kind."""
    while True:
        event: Event = json.loads(await asyncio.wait_for(websocket.recv(), 60))
        if event["type"] == kind:
            return event


async def rest(websocket: ClientConnection) -> list[Event]:
    """All events until the server closes."""
    events = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            events.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
    return events


def total_of(metrics: str, name: str) -> float:
    """A counter's value; 0 as long as it has never counted."""
    found = re.search(rf"^{re.escape(name)} ([0-9.]+)", metrics, flags=re.M)
    return float(found[1]) if found else 0.0


def frames(data: bytes, size: int = FRAME_BYTES) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def say(websocket: ClientConnection, chunks: list[bytes], pause_s: float = 0.0) -> None:
    for chunk in chunks:
        await websocket.send(chunk)
        await asyncio.sleep(pause_s)
    await websocket.send('{"type": "end"}')


async def whole(
    service: Service, chunks: list[bytes], pause_s: float = 0.0, **config: Any
) -> list[Event]:
    """Every event of a stream from its beginning to its end."""
    async with stream(service, {"type": "config", **config}) as websocket:
        saying = asyncio.create_task(say(websocket, chunks, pause_s))
        events = await rest(websocket)
        await saying
    assert websocket.close_code == 1000, events[-1]
    return events


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def text_of(events: list[Event]) -> str:
    return " ".join(e["text"] for e in of(events, "final") if e["text"])


async def refused(websocket: ClientConnection, kind: str, code: int) -> Event:
    """The error that ends a connection, after checking that it has the one shape."""
    error = (await rest(websocket))[-1]
    assert set(error) == {"type", "error", "message", "details", "request_id"}
    assert (error["type"], error["error"], websocket.close_code) == ("error", kind, code)
    return error


async def until_quiet(websocket: ClientConnection) -> list[Event]:
    """What has come by now."""
    events = []
    with contextlib.suppress(asyncio.TimeoutError):
        while True:
            message = await asyncio.wait_for(websocket.recv(), 0.02)
            events.append(json.loads(message))
    return events
