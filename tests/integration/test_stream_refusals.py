"""What a live stream refuses, and with which error."""

import contextlib

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import Service
from tests.integration.live_stream import SPEECH_PCM, refused, rest, stream


@pytest.mark.parametrize(
    "first, kind, code",
    [
        (b"\x00\x00", "ValidationError", 1008),
        ("nonsense", "ValidationError", 1008),
        ('{"type": "sing"}', "ValidationError", 1008),
        ('{"type": "end"}', "ValidationError", 1008),
        ('{"type": "config", "encoding": "mp3"}', "ValidationError", 1008),
        ('{"type": "config", "sample_rate": 1}', "ValidationError", 1008),
        ('{"type": "config", "colour": "red"}', "ValidationError", 1008),
        ('{"type": "config", "language": "tlh"}', "ValidationError", 1008),
        ('{"type": "resume", "session_id": "unknown"}', "NotFound", 4404),
    ],
)
async def test_a_stream_that_cant_begin(
    service: Service, first: str | bytes, kind: str, code: int
) -> None:
    async with stream(service) as websocket:
        await websocket.send(first)
        await refused(websocket, kind, code)


@pytest.mark.parametrize(
    "later", ['{"type": "config"}', '{"type": "dance"}', '{"type": "resume", "session_id": "x"}']
)
async def test_a_message_out_of_turn(service: Service, later: str) -> None:
    async with stream(service, {"type": "config"}) as websocket:
        await websocket.send(later)
        await refused(websocket, "ValidationError", 1008)


async def test_audio_after_the_end_is_refused(service: Service) -> None:
    async with stream(service, {"type": "config"}) as websocket:
        await websocket.send(SPEECH_PCM)
        await websocket.send('{"type": "end"}')
        await websocket.send(bytes(3200))
        await refused(websocket, "ValidationError", 1008)


async def test_an_end_without_audio(service: Service) -> None:
    async with stream(service, {"type": "config"}) as websocket:
        await websocket.send('{"type": "end"}')
        await refused(websocket, "ValidationError", 1003)


@pytest.mark.parametrize("encoding", ["webm", "ogg"])
async def test_what_is_no_container(service: Service, encoding: str) -> None:
    async with stream(service, {"type": "config", "encoding": encoding}) as websocket:
        await websocket.send(b"this is no audio" * 2000)
        await refused(websocket, "ValidationError", 1003)


async def test_a_huge_message_is_refused_before_it_is_held(service: Service) -> None:
    async with stream(service, {"type": "config"}) as websocket:
        with contextlib.suppress(ConnectionClosed):
            await websocket.send(bytes(2**20 + 1))
        await rest(websocket)
        assert websocket.close_code == 1009
