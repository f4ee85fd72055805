"""Versions that don't work, or stop to, under traffic: callers are answered by the stable ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.model_versions import dying, garbling, publish, unloadable, without_labels
from tests.rolling import LENIENT, SPEECH, Crowd, Rolling


@pytest.mark.parametrize(
    "model, version, spoil, gate",
    [
        ("emotion", "3", unloadable, "load"),
        ("emotion", "4", without_labels, "files"),
        ("whisper", "3", dying, "golden"),
        ("whisper", "4", garbling, "golden"),
    ],
)
def test_a_version_that_does_not_work_gets_no_traffic(
    rolling: Rolling, model: str, version: str, spoil: Any, gate: str
) -> None:
    publish(rolling.repository, model, version, spoil)
    with Crowd(rolling, 2).asking() as crowd:
        rollout = rolling.begun(model, version=version, weight=50)
        failed = rolling.until(model, rollout, "failed", "running", "rolled_back")
        assert failed["status"] == "failed"
        rolling.settled(model, ["1"])
    crowd.check()
    assert failed["reason"]
    assert failed["history"][-1]["detail"]["gate"] == gate
    ended = {"model": model, "outcome": "failed", "gate": gate}
    assert rolling.metric("voice_analytics_rollouts_ended_total", **ended) >= 1


def test_a_file_that_was_changed_after_the_export_is_noticed(rolling: Rolling) -> None:
    folder = publish(rolling.repository, "emotion", "5")
    (folder / "labels.txt").write_text("happy\n")
    rollout = rolling.begun("emotion", version="5", weight=50)
    failed = rolling.until("emotion", rollout, "failed", "running")
    assert failed["status"] == "failed"
    assert "labels.txt" in failed["reason"]


def test_a_version_that_dies_under_traffic_is_rolled_back_and_nobody_notices(
    rolling: Rolling,
) -> None:
    if not (rolling.repository / "whisper" / "3").exists():
        publish(rolling.repository, "whisper", "3", dying)
    with Crowd(rolling, 4).asking() as crowd:
        rollout = rolling.begun(
            "whisper",
            version="3",
            weight=50,
            gates={**LENIENT, "min_requests": 50, "golden": False},
        )
        done = rolling.until("whisper", rollout, "rolled_back")
        rolling.settled("whisper", ["1"])
    crowd.check()
    assert {versions["whisper"] for versions in crowd.versions} == {"1"}
    assert done["history"][-1]["detail"]["gate"] == "error_rate"
    assert "requests failed" in done["reason"]
    told = {"model": "whisper", "version": "3", "outcome": "failed"}
    assert 1 <= rolling.metric("voice_analytics_model_answers_total", **told) <= 50


async def test_a_stream_whose_version_dies_goes_on_with_the_stable_one(rolling: Rolling) -> None:
    if not (rolling.repository / "whisper" / "3").exists():
        publish(rolling.repository, "whisper", "3", dying)
    gates = {**LENIENT, "min_requests": 1000, "error_rate": 0.5, "golden": False}
    begun = await asyncio.to_thread(
        lambda: rolling.begun("whisper", version="3", weight=100, gates=gates)
    )
    await asyncio.to_thread(lambda: rolling.until("whisper", begun, "running"))
    await asyncio.sleep(1.5)  # every worker has heard of it
    url = rolling.service.url.replace("http", "ws") + "/audio/stream"
    async with connect(url, max_size=None) as socket:
        await socket.send(json.dumps({"type": "config", "partials": False}))
        await socket.send((SPEECH * 32767).astype("<i2").tobytes())
        await socket.send('{"type": "end"}')
        events = [json.loads(message) async for message in socket]
    by_type = {event["type"]: event for event in events}
    assert by_type["summary"]["models"]["whisper"]["version"] == "1"
    words = " ".join(e["text"] for e in events if e["type"] == "final").split()
    assert words == by_type["summary"]["transcription"].split()
    assert words
    back = f"{rolling.service.url}/models/whisper/rollouts/{begun}/rollback"
    await asyncio.to_thread(httpx.post, back, timeout=60)
    await asyncio.to_thread(rolling.settled, "whisper", ["1"])
