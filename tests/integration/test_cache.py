"""The cache with a real Redis that is shared, killed, slow and full; and what Triton saw of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from redis import Redis

from api import cache_redis
from api.cache import Outcome, Stage, StageCache
from api.cache_memory import MemoryCache
from api.cache_redis import PREFIX, RETRY_S, RedisCache
from api.detection import Detectors
from api.errors import ConfigurationError
from api.metrics import Metrics
from api.overlap import OverlapDetector
from api.pipeline import Pipeline
from api.repository import manifest, newest
from api.serving import ServedModels, Serving
from api.store.database import Database
from api.store.profiles import ProfileStore
from api.triton import TritonClient
from api.types import AnalysisOptions, Waveform
from api.vad import VoiceActivityDetector
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import digits, samples, wav
from tests.integration.conftest import Production
from tests.integration.databases import RedisServer, run_redis

WORDS: Stage[list[str]] = Stage("words", orjson.dumps, orjson.loads)
OF_ONE = {"vad", "whisper", "emotion", "speaker_embedding"}
"""The stages of a recording that is known to have one speaker."""
ALL = OF_ONE | {"overlap"}


class Worker:
    """One worker's cache, and how often it computed."""

    def __init__(self, redis: RedisServer) -> None:
        self.metrics = Metrics()
        tier = RedisCache(
            redis.url, timeout_s=0.25, ttl_s=60.0, on_failure=self.metrics.cache_failed
        )
        self.cache = StageCache(MemoryCache(0, 60.0), self.metrics, tier)
        self.computed = 0
        self.takes_s = 0.0
        self.value = ["one", "two"]

    async def ask(self, key: str = "key", within_s: float = 10.0) -> Outcome:
        deadline = time.monotonic() + within_s
        found = await self.cache.get(WORDS, key, self._compute, deadline=deadline)
        assert found.value == self.value
        return found.outcome

    async def _compute(self) -> list[str]:
        self.computed += 1
        await asyncio.sleep(self.takes_s)
        return self.value

    def failures(self, kind: str) -> float:
        return self.metrics.cache_failures.labels(kind)._value.get()


@pytest.fixture
async def workers(redis: RedisServer) -> AsyncIterator[list[Worker]]:
    """Two, without memory, so that all goes through Redis."""
    both = [Worker(redis), Worker(redis)]
    yield both
    for worker in both:
        await worker.cache.close()


async def test_one_worker_finds_what_another_computed(workers: list[Worker]) -> None:
    first, second = workers
    assert await first.ask() == "miss"
    assert await second.ask() == "redis"
    assert (first.computed, second.computed) == (1, 0)


async def test_simultaneous_requests_compute_once_across_workers(workers: list[Worker]) -> None:
    for worker in workers:
        worker.takes_s = 0.5
    outcomes = Counter(await asyncio.gather(*(w.ask() for w in workers for _ in range(8))))
    assert sum(worker.computed for worker in workers) == 1
    assert outcomes == {"miss": 1, "redis": 1, "joined": 14}


async def test_a_long_computation_keeps_its_turn(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that isn't renewed runs out under its holder, and others begin the same work."""
    monkeypatch.setattr(cache_redis, "LOCK_TTL_S", 0.3)
    for worker in workers:
        worker.takes_s = 1.2
    await asyncio.gather(*(worker.ask() for worker in workers))
    assert sum(worker.computed for worker in workers) == 1


async def test_a_dead_workers_turn_is_taken_over(
    workers: list[Worker], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_redis, "LOCK_TTL_S", 0.5)
    with Redis.from_url(redis.url) as client:
        client.set(f"{PREFIX}lock:key", "somebody who died", px=500)
    started = time.monotonic()
    assert await workers[0].ask() == "miss"
    assert 0.3 < time.monotonic() - started < 3.0


async def test_waiting_for_another_ends_in_time(workers: list[Worker], redis: RedisServer) -> None:
    """Half of the time is for waiting, half for doing it alone."""
    with Redis.from_url(redis.url) as client:
        client.set(f"{PREFIX}lock:key", "somebody who takes for ever", px=60_000)
        started = time.monotonic()
        assert await workers[0].ask(within_s=1.0) == "miss"
        assert 0.4 < time.monotonic() - started < 0.9
        assert client.get(f"{PREFIX}lock:key") == b"somebody who takes for ever"


async def test_a_cancelled_worker_gives_its_turn_back(workers: list[Worker]) -> None:
    first, second = workers
    first.takes_s = 60.0
    task = asyncio.create_task(first.ask())
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    started = time.monotonic()
    assert await second.ask() == "miss"
    assert time.monotonic() - started < 2.0


async def test_values_and_turns_expire(workers: list[Worker], redis: RedisServer) -> None:
    await workers[0].ask()
    with Redis.from_url(redis.url) as client:
        (key,) = client.keys()
        assert 0 < client.pttl(key) <= 60_000


async def test_foreign_bytes_in_redis_are_a_miss(workers: list[Worker], redis: RedisServer) -> None:
    with Redis.from_url(redis.url) as client:
        client.set(f"{PREFIX}key", b"\x80\x04nonsense")
    assert await workers[0].ask() == "miss"
    assert workers[0].failures("unreadable") >= 1
    assert await workers[1].ask() == "redis"


async def test_redis_killed_and_back(
    workers: list[Worker], redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    worker, _ = workers
    assert await worker.ask("a") == "miss"
    redis.kill()
    started = time.monotonic()
    for number in range(20):
        assert await worker.ask(f"while away {number}") == "miss"
    assert time.monotonic() - started < 1.0
    assert 1 <= worker.failures("away") <= 3
    redis.start()
    await asyncio.sleep(RETRY_S)
    assert await worker.ask("b") == "miss"
    assert await worker.ask("b") == "redis"


async def test_a_slow_redis_holds_nobody_up(workers: list[Worker], redis: RedisServer) -> None:
    worker, _ = workers
    await worker.ask("a")
    redis.freeze()
    try:
        started = time.monotonic()
        for number in range(20):
            assert await worker.ask(f"while frozen {number}") == "miss"
        assert 0.25 <= time.monotonic() - started < 2.0
        assert 1 <= worker.failures("away") <= 3
    finally:
        redis.thaw()
    await asyncio.sleep(RETRY_S)
    await worker.ask("b")
    assert await worker.ask("b") == "redis"


async def test_a_full_redis_can_still_be_read() -> None:
    with run_redis("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as redis:
        worker = Worker(redis)
        assert await worker.ask("kept") == "miss"
        worker.value = ["x" * 1_500_000]
        for number in range(4):
            assert await worker.ask(f"large {number}") == "miss"
        assert worker.failures("refused") >= 1
        assert worker.failures("away") == 0
        worker.value = ["one", "two"]
        assert await worker.ask("kept") == "redis"
        await worker.cache.close()


async def test_a_redis_that_asks_for_a_password_is_as_good_as_none() -> None:
    with run_redis("--requirepass", "secret") as redis:
        worker = Worker(redis)
        assert await worker.ask() == "miss"
        assert worker.failures("away") + worker.failures("refused") >= 1
        await worker.cache.close()


def test_a_url_that_is_none_is_a_setting_error() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        RedisCache("http://host", timeout_s=1, ttl_s=1, on_failure=print)


# --- the whole service


async def inferences(service: Service) -> dict[str, int]:
    """How many inferences Triton has run, by model, from its own metrics.

    It counts an inference after it has answered, so they are looked at until they stand still.
    """
    seen = _inferences(service)
    while True:
        await asyncio.sleep(0.3)
        before, seen = seen, _inferences(service)
        if seen == before:
            return seen


def _inferences(service: Service) -> dict[str, int]:
    text = httpx.get(f"http://127.0.0.1:{service.triton_port('metrics')}/metrics").text
    found = re.findall(r'^nv_inference_count{model="(\w+)",version="\d+"} (\d+)', text, flags=re.M)
    return {model: int(count) for model, count in found}


def recording(variant: int) -> bytes:
    """The sample conversation, a little quieter each time: nothing that was heard before."""
    return wav(samples(SAMPLE) * np.float32(0.99 - variant * 0.01))


async def ask(http: httpx.AsyncClient, data: bytes, **options: Any) -> dict[str, Any]:
    answer = await http.post("/audio/analyze", files={"file": data}, data=options)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


@pytest.fixture
async def http(production: Production) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=production.service.url, timeout=120) as opened:
        yield opened


async def test_asking_otherwise_runs_no_model_again(
    production: Production, http: httpx.AsyncClient
) -> None:
    data = recording(1)
    at_first = await inferences(production.service)
    first = await ask(http, data)
    assert first["cache"] == dict.fromkeys(ALL, "miss")
    assert first["cached"] is False
    before = await inferences(production.service)
    chunks = before["whisper"] - at_first["whisper"]
    assert chunks >= 1
    for count in (1, 2, 3):
        other = await ask(http, data, num_speakers=count)
        assert other["cache"] == dict.fromkeys(OF_ONE if count == 1 else ALL, "hit")
        assert other["cached"] is True
        assert other["transcription"] == first["transcription"]
        assert len(other["speakers"]) == count
    again = await ask(http, data)
    for field in ("segments", "speakers", "turns", "emotions", "conversation", "quality"):
        assert again[field] == first[field], field
    for response_format in ("text", "srt", "vtt", "tsv", "rttm"):
        answer = await http.post(
            "/audio/analyze", files={"file": data}, data={"response_format": response_format}
        )
        assert answer.status_code == 200
    fewer = await ask(http, data, diarize=False, emotions=False)
    assert fewer["cache"] == {"vad": "hit", "whisper": "hit"}
    assert await inferences(production.service) == before
    words = await ask(http, data, language="en")
    assert words["cache"] == {**dict.fromkeys(ALL, "hit"), "whisper": "miss"}
    after = await inferences(production.service)
    assert after == {**before, "whisper": before["whisper"] + chunks}


async def test_sixteen_identical_requests_at_once_run_whisper_once(
    production: Production, http: httpx.AsyncClient
) -> None:
    """Over two workers: in each they join, and between them one waits for the other's turn."""
    before = await inferences(production.service)
    data = wav(digits()[0] * np.float32(0.9))  # one chunk
    answers = await asyncio.gather(*(ask(http, data) for _ in range(16)))
    assert (await inferences(production.service))["whisper"] == before["whisper"] + 1
    assert len({answer["transcription"] for answer in answers}) == 1
    assert len({answer["id"] for answer in answers}) == 16
    for answer in answers:
        kept = await http.get(f"/audio/analyses/{answer['id']}")
        assert kept.json() == answer


async def test_the_metrics_count_hits_and_misses_by_stage(
    production: Production, http: httpx.AsyncClient
) -> None:
    async def lookups() -> dict[tuple[str, str], float]:
        text = (await http.get("/metrics")).text
        pattern = r'^voice_analytics_cache_lookups_total{outcome="(\w+)",stage="(\w+)"} (\S+)'
        found = re.findall(pattern, text, flags=re.M)
        return defaultdict(float, {(stage, outcome): float(n) for outcome, stage, n in found})

    before = await lookups()
    data = recording(3)
    for _ in range(4):
        await ask(http, data)
    after = await lookups()
    for stage in ALL:
        gained = {o: after[stage, o] - before[stage, o] for o in ("memory", "redis", "miss")}
        assert gained["miss"] == 1
        assert gained["memory"] + gained["redis"] == 3


async def test_another_emotion_release_runs_no_whisper(production: Production) -> None:
    service = production.service
    folder = service.data_dir / "model_repository"
    manifests = {model: manifest(folder, model, v) for model, v in newest(folder).items()}
    renewed = manifests["emotion"]
    renewed = replace(renewed, content={**renewed.content, "created": "later"})
    cache = StageCache(MemoryCache(2**20, 60.0), Metrics())
    triton = TritonClient(f"127.0.0.1:{service.triton_port('grpc')}")
    waveform = Waveform(samples(SAMPLE))
    try:
        with ThreadPoolExecutor(1) as executor:
            outcomes = []
            for emotion in (manifests["emotion"], renewed):
                pipeline = Pipeline(
                    triton,
                    Detectors(VoiceActivityDetector(), OverlapDetector()),
                    Serving(ServedModels.of({**manifests, "emotion": emotion}), Metrics()),
                    executor,
                    cache,
                    ProfileStore(Database("sqlite:///never-opened.db", timeout_s=1)),
                )
                deadline = time.monotonic() + 60
                before = (await inferences(service))["whisper"]
                analysis = await pipeline.analyze(waveform, AnalysisOptions(), deadline=deadline)
                outcomes.append(dict(analysis.cache))
            assert (await inferences(service))["whisper"] == before
    finally:
        await cache.close()
        await triton.close()
    assert outcomes[0] == dict.fromkeys(ALL, "miss")
    assert outcomes[1] == {**dict.fromkeys(ALL, "hit"), "emotion": "miss"}


def test_redis_killed_under_a_running_service(tmp_path: Path) -> None:
    """The service goes on as if there were none, says so once, and comes back by itself."""
    with (
        run_redis() as redis,
        run_service(
            tmp_path / "s", REDIS_URL=redis.url, REDIS_TIMEOUT="1", CACHE_MEMORY_BYTES="0"
        ) as service,
        httpx.Client(base_url=service.url, timeout=60) as http,
    ):

        def outcome(variant: int) -> str:
            answer = http.post("/audio/analyze", files={"file": recording(variant)})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["cache"]["whisper"])

        assert [outcome(1), outcome(1)] == ["miss", "hit"]
        redis.kill()
        assert [outcome(1), outcome(1), outcome(1)] == ["miss"] * 3
        assert service.log.count("redis_failed") == 1
        assert http.get("/health/ready").status_code == 200
        redis.start()
        time.sleep(RETRY_S)
        assert [outcome(1), outcome(1)] == ["miss", "hit"]
        assert service.log.count("redis_recovered") == 1
        assert "Traceback" not in service.log
