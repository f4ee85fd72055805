"""WS /audio/stream over the real service, with a real WebSocket client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import samples, silence, wav
from tests.integration.test_resilience import stubs
from tests.live_audio import pcm, recorded

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


async def test_a_conversation_from_ready_to_summary(service: Service) -> None:
    events = await whole(service, frames(SPEECH_PCM), language="en")
    assert events[0]["type"] == "ready" and events[0]["session_id"]
    finals, (summary,) = of(events, "final"), of(events, "summary")
    assert events[-1] == summary
    assert [e["seq"] for e in [*finals, summary]] == list(range(1, len(finals) + 2))
    assert len(finals) >= 4
    previous = 0.0
    for final in finals:
        assert previous <= final["start"] < final["end"] <= summary["duration"]
        assert final["speaker"].startswith("SPEAKER_")
        assert sum(final["emotion"]["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert "".join(w["word"] for w in final["words"]).split() == final["text"].split()
        for word in final["words"]:
            assert final["start"] <= word["start"] <= word["end"] <= final["end"]
            assert word["speaker"] == final["speaker"]
        previous = final["end"]
    assert of(events, "ack")[-1]["received_bytes"] == len(SPEECH_PCM)


async def test_the_summary_is_what_a_file_gives(service: Service) -> None:
    """Same samples, same pipeline: a stream's words must not hang on how it was sent."""
    (summary,) = of(await whole(service, frames(SPEECH_PCM)), "summary")
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:
        answer = await http.post("/audio/analyze", files={"file": SAMPLE.read_bytes()})
        stored = await http.get(f"/audio/analyses/{summary['id']}")
    file = answer.json()
    assert stored.json()["transcription"] == summary["transcription"]
    for name in file:
        if name not in ("id", "created_at", "timings_ms", "cached", "cache"):
            assert summary[name] == file[name], name


async def test_a_stream_and_a_file_end_with_the_same_words(service: Service) -> None:
    """Utterances are cut differently from a file's chunks; the bundled checkpoint doesn't mind."""
    events = await whole(service, frames(SPEECH_PCM))
    (summary,) = of(events, "summary")
    assert text_of(events) == summary["transcription"]


@pytest.mark.parametrize(
    "encoding, rate_hz", [("s16le", 8000), ("s16le", 48000), ("f32le", 16000), ("f32le", 48000)]
)
async def test_raw_encodings_and_rates(
    service: Service, encoding: Literal["s16le", "f32le"], rate_hz: int
) -> None:
    data = pcm(CONVERSATION, encoding, rate_hz)
    events = await whole(service, frames(data, 4999), encoding=encoding, sample_rate=rate_hz)
    (summary,) = of(events, "summary")
    assert summary["duration"] == pytest.approx(len(CONVERSATION) / 16000, abs=0.01)
    assert of(events, "ack")[-1]["received_samples"] == pytest.approx(
        len(CONVERSATION) * rate_hz / 16000, abs=2
    )
    assert len(of(events, "final")) >= 4


@pytest.mark.parametrize("container", ["webm", "ogg"])
async def test_what_a_browser_records(service: Service, container: Literal["webm", "ogg"]) -> None:
    chunks = recorded(CONVERSATION, container)
    events = await whole(service, chunks, encoding=container)
    (summary,) = of(events, "summary")
    assert summary["duration"] == pytest.approx(len(CONVERSATION) / 16000, abs=0.05)
    last = of(events, "ack")[-1]
    assert last["received_bytes"] == sum(map(len, chunks))
    assert last["received_samples"] == pytest.approx(len(CONVERSATION), abs=1000)
    assert len(of(events, "final")) >= 4


async def test_a_stable_prefix_is_never_taken_back(service: Service) -> None:
    events = await whole(service, frames(SPEECH_PCM), pause_s=0.05, language="en")
    partials = of(events, "partial")
    assert partials, "speech at twice the speed of life gives partials"
    for _, utterance in groupby(partials, key=lambda e: e["start"]):
        shown = list(utterance)
        for partial in shown:
            assert partial["text"].startswith(partial["stable"])
        for before, after in pairwise(shown):
            assert after["stable"].startswith(before["stable"])
            assert after["end"] > before["end"]
    for before, after in pairwise([e for e in events if e["type"] in ("partial", "final")]):
        assert not (before["type"] == "final" and after["start"] < before["start"])


async def test_partials_can_be_switched_off(service: Service) -> None:
    chunks = frames(SPEECH_PCM[: 4 * 32000])
    assert not of(await whole(service, chunks, 0.02, partials=False), "partial")


async def test_branches_can_be_switched_off(service: Service) -> None:
    events = await whole(service, frames(SPEECH_PCM), diarize=False, emotions=False)
    assert all(e["speaker"] is e["emotion"] is None for e in of(events, "final"))
    (summary,) = of(events, "summary")
    assert summary["speakers"] == summary["emotions"] == []


async def test_acks_come_at_least_once_a_second(service: Service) -> None:
    async with stream(service, {"type": "config", "partials": False}) as websocket:
        await following(websocket, "ready")
        times = []
        for _ in range(5):
            await following(websocket, "ack")
            times.append(time.monotonic())
            await websocket.send(bytes(3200))
    assert max(after - before for before, after in pairwise(times)) < 1.0


async def test_silence_gives_no_word(service: Service) -> None:
    events = await whole(service, frames(pcm(silence(5))))
    assert of(events, "final") == of(events, "partial") == []
    assert of(events, "summary")[0]["transcription"] == ""


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
                events += await _until_quiet(websocket)
                websocket.transport.abort()
                drops += 1
        last_seq = max([e["seq"] for e in events if "seq" in e], default=0)
    assert drops > 1
    finals = of(events, "final")
    assert [e["seq"] for e in finals] == list(range(1, len(finals) + 1))
    assert [e["text"] for e in finals] == [e["text"] for e in of(undisturbed, "final")]
    assert of(events, "summary")[0]["segments"] == of(undisturbed, "summary")[0]["segments"]


async def _until_quiet(websocket: ClientConnection) -> list[Event]:
    """What has come by now."""
    events = []
    with contextlib.suppress(asyncio.TimeoutError):
        while True:
            message = await asyncio.wait_for(websocket.recv(), 0.02)
            events.append(json.loads(message))
    return events


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


async def test_streams_share_executions(service: Service) -> None:
    """Utterances of different lengths meet in the buckets of the emotion and speaker models."""
    async with httpx.AsyncClient() as http:
        before = await executions(http, service, "emotion")
        answers = await asyncio.gather(
            *(whole(service, frames(SPEECH_PCM), partials=False) for _ in range(4))
        )
        after = await executions(http, service, "emotion")
    assert len({text_of(events) for events in answers}) == 1
    asked = after["inferences"] - before["inferences"]
    assert asked >= 4 * len(of(answers[0], "final"))
    assert after["executions"] - before["executions"] < asked


async def test_a_flood_is_held_back_and_memory_stays_bounded(service: Service) -> None:
    """Two clients send nearly five minutes each as fast as they can: it takes what two files of
    that length take, and the recordings."""
    process = psutil.Process(service.process.pid)
    data = SPEECH_PCM * int(290 * 32000 / len(SPEECH_PCM))
    before = await _memory_for_files(process, service, [data[4:], data[8:]])
    flood = [whole(service, frames(data, 2**16)) for _ in range(2)]
    watching = asyncio.create_task(_highest_memory(process))
    answers = await asyncio.gather(*flood)
    watching.cancel()
    highest = await watching
    for events in answers:
        assert of(events, "summary")[0]["duration"] == pytest.approx(len(data) / 32000, abs=0.01)
        assert len(of(events, "final")) > 60
    recordings = 2 * len(data) * 2  # float32, both streams
    assert highest < before + recordings + 50 * 2**20


async def _memory_for_files(
    process: psutil.Process, service: Service, recordings: list[bytes]
) -> int:
    """The most memory that the service takes to analyse files at once."""
    watching = asyncio.create_task(_highest_memory(process))
    async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:
        files = [wav(np.frombuffer(data, "<i2") / np.float32(32768)) for data in recordings]
        await asyncio.gather(*(http.post("/audio/analyze", files={"file": f}) for f in files))
    watching.cancel()
    return await watching


async def executions(http: httpx.AsyncClient, service: Service, model: str) -> dict[str, int]:
    """A model's counters from Triton's own metrics."""
    port = re.search(r'"metrics": (\d+)', service.log)
    assert port, "the log names Triton's metrics port"
    text = (await http.get(f"http://127.0.0.1:{port[1]}/metrics")).text

    def total(name: str) -> int:
        found = re.findall(rf'^{name}{{model="{model}",version="\d+"}} (\d+)', text, flags=re.M)
        return sum(int(value) for value in found)

    return {
        "inferences": total("nv_inference_count"),
        "executions": total("nv_inference_exec_count"),
    }


async def _highest_memory(process: psutil.Process) -> int:
    highest = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            highest = max(highest, process.memory_info().rss)
            await asyncio.sleep(0.05)
    return highest


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
                    events += await _until_quiet(websocket)
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
    (stub,) = [s for s in stubs(strict) if "/whisper/" in " ".join(s.cmdline())]
    stub.kill()
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
