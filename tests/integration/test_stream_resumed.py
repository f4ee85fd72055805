"""Live streams whose connections break: nothing is lost, nothing is doubled."""

import asyncio
import json
import random
from pathlib import Path

import pytest

from tests.conftest import Service, run_service
from tests.integration.live_stream import (
    CONVERSATION,
    SPEECH_PCM,
    Event,
    following,
    frames,
    of,
    refused,
    rest,
    say,
    stream,
    until_quiet,
    whole,
)


@pytest.mark.parametrize("seed", range(4))
async def test_no_word_is_lost_or_doubled_over_dropped_connections(
    service: Service, seed: int
) -> None:
    """Connections are torn down at random moments, in the middle of samples too."""
    undisturbed = await whole(service, frames(SPEECH_PCM))
    chance = random.Random(seed)
    session_id, last_seq, received = None, 0, 0
    events: list[Event] = []
    drops = 0
    while not of(events, "summary"):
        first: Event = {"type": "config"}
        if session_id is not None:
            first = {"type": "resume", "session_id": session_id}
            if seed % 2:
                first["last_seq"] = last_seq
        async with stream(service, first) as websocket:
            hello = json.loads(await websocket.recv())
            session_id = hello.get("session_id", session_id)
            received = hello.get("received_bytes", 0)
            assert hello.get("received_samples", 0) == received // 2
            until = received + chance.randrange(1, len(SPEECH_PCM) // 3)
            is_last = until >= len(SPEECH_PCM) or drops == 8
            part = frames(SPEECH_PCM[received : None if is_last else until], 4001)
            if is_last:
                saying = asyncio.create_task(say(websocket, part))
                events += await rest(websocket)
                await saying
            else:
                for chunk in part:
                    await websocket.send(chunk)
                events += await until_quiet(websocket)
                websocket.transport.abort()
                drops += 1
        last_seq = max([e["seq"] for e in events if "seq" in e], default=0)
    assert drops > 1
    finals = of(events, "final")
    assert [e["seq"] for e in finals] == list(range(1, len(finals) + 1))
    assert [e["text"] for e in finals] == [e["text"] for e in of(undisturbed, "final")]
    assert of(events, "summary")[0]["segments"] == of(undisturbed, "summary")[0]["segments"]


async def test_finals_that_were_not_delivered_are_sent_again(service: Service) -> None:
    async with stream(service, {"type": "config", "partials": False}) as websocket:
        session_id = (await following(websocket, "ready"))["session_id"]
        await say(websocket, frames(SPEECH_PCM))
        heard = await following(websocket, "final")
        websocket.transport.abort()
    again = {"type": "resume", "session_id": session_id, "last_seq": heard["seq"]}
    async with stream(service, again) as websocket:
        events = await rest(websocket)
    assert events[0]["type"] == "resumed" and events[0]["ended"]
    seqs = [e["seq"] for e in events if "seq" in e]
    assert seqs == list(range(2, len(seqs) + 2))
    assert of(events, "summary")
    assert websocket.close_code == 1000


async def test_the_connection_that_resumes_takes_over(service: Service) -> None:
    """A client notices a dead network before the server does, and must not be locked out."""
    async with stream(service, {"type": "config"}) as stale:
        session_id = (await following(stale, "ready"))["session_id"]
        await stale.send(SPEECH_PCM[:32000])
        await following(stale, "ack")
        async with stream(service, {"type": "resume", "session_id": session_id}) as fresh:
            received = (await following(fresh, "resumed"))["received_samples"]
            assert received == 16000
            await refused(stale, "Conflict", 4409)
            await say(fresh, frames(SPEECH_PCM[2 * received :]))
            summary = await following(fresh, "summary")
    assert summary["duration"] == pytest.approx(len(CONVERSATION) / 16000, abs=0.01)


async def test_a_stream_is_resumed_through_any_worker(tmp_path: Path) -> None:
    with run_service(tmp_path / "workers", WORKERS="3") as service:
        undisturbed = await whole(service, frames(SPEECH_PCM))
        first: Event = {"type": "config"}
        events: list[Event] = []
        step = len(SPEECH_PCM) // 9
        for part in range(10):
            async with stream(service, first) as websocket:
                hello = json.loads(await websocket.recv())
                assert hello["type"] == ("resumed" if part else "ready")
                received = hello.get("received_bytes", 0)
                await websocket.send(SPEECH_PCM[received : (part + 1) * step])
                if part == 9:
                    await websocket.send('{"type": "end"}')
                    events += await rest(websocket)
                    assert websocket.close_code == 1000
                else:
                    events += await until_quiet(websocket)
                    websocket.transport.abort()
            seqs = [e["seq"] for e in events if "seq" in e]
            session_id = first.get("session_id") or hello["session_id"]
            first = {"type": "resume", "session_id": session_id, "last_seq": max(seqs, default=0)}
        assert [e["text"] for e in of(events, "final")] == [
            e["text"] for e in of(undisturbed, "final")
        ]
        passed_on = service.log.count('"stream_connection"') - 11
        assert passed_on > 0, "of nine connections to three workers some reach another one"
        first["session_id"] = "0123abcd-unknown"
        async with stream(service, first) as websocket:
            await refused(websocket, "NotFound", 4404)
