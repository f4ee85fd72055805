"""WS /audio/stream over the real service, with a real WebSocket client."""

import time
from itertools import groupby, pairwise
from typing import Literal

import httpx
import pytest

from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import silence
from tests.integration.live_stream import (
    CONVERSATION,
    SPEECH_PCM,
    following,
    frames,
    of,
    stream,
    text_of,
    whole,
)
from tests.live_audio import pcm, recorded


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
