"""Several live streams at once: shared executions, bounded memory."""

import asyncio
import contextlib
import re

import httpx
import numpy as np
import psutil
import pytest

from tests.conftest import Service
from tests.integration.audio_files import wav
from tests.integration.live_stream import SPEECH_PCM, frames, of, text_of, whole


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
