"""The cache in one process: what leaves it, and one computation for all who ask at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import orjson
import pytest

from api import stages
from api.cache import Outcome, Stage, StageCache, samples_digest, stage_key
from api.cache_memory import MemoryCache
from api.cache_redis import RETRY_S, Breaker
from api.errors import DeadlineExceeded, InferenceError
from api.services.whisper import Transcript
from api.types import Region, Segment, TokenLogprob, Waveform, Word

WORDS: Stage[list[str]] = Stage("words", orjson.dumps, orjson.loads)


class Figures:
    """Counts what the cache tells."""

    def __init__(self) -> None:
        self.lookups: Counter[tuple[str, Outcome]] = Counter()
        self.failures: Counter[str] = Counter()
        self.size_bytes = 0

    def cache_looked_up(self, stage: str, outcome: Outcome) -> None:
        self.lookups[stage, outcome] += 1

    def cache_failed(self, kind: str) -> None:
        self.failures[kind] += 1

    def cache_size(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


class Work:
    """A computation that can be held, and that counts how often it began and was cancelled."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun = self.cancelled = 0
        self.may_end = asyncio.Event()
        self._failure = failure

    async def __call__(self) -> list[str]:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._failure is not None:
            raise self._failure
        return ["one", "two"]


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def cache(figures: Figures) -> StageCache:
    return StageCache(MemoryCache(10_000, 60.0), figures)


def ask(
    cache: StageCache, compute: Callable[[], Awaitable[list[str]]], within_s: float = 10.0
) -> asyncio.Task[tuple[list[str], Outcome]]:
    async def get() -> tuple[list[str], Outcome]:
        found = await cache.get(WORDS, "key", compute, deadline=time.monotonic() + within_s)
        return found.value, found.outcome

    return asyncio.create_task(get())


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_computation_for_all_who_ask_at_once(cache: StageCache, figures: Figures) -> None:
    work = Work()
    callers = [ask(cache, work) for _ in range(16)]
    await settle()
    work.may_end.set()
    outcomes = [outcome for _, outcome in await asyncio.gather(*callers)]
    assert work.begun == 1
    assert Counter(outcomes) == {"miss": 1, "joined": 15}
    assert (await ask(cache, work)) == (["one", "two"], "memory")
    assert figures.lookups["words", "memory"] == work.begun == 1
    assert figures.size_bytes > 0


async def test_no_two_callers_share_a_value(cache: StageCache) -> None:
    """One who sorts or scales what he got must not change it for the others."""
    work = Work()
    work.may_end.set()
    first, second = await asyncio.gather(ask(cache, work), ask(cache, work))
    first[0].append("three")
    assert second[0] == (await ask(cache, work))[0] == ["one", "two"]


async def test_the_computing_caller_is_cancelled_and_the_others_go_on(cache: StageCache) -> None:
    work = Work()
    leader, *others = [ask(cache, work) for _ in range(4)]
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    work.may_end.set()
    assert [value for value, _ in await asyncio.gather(*others)] == [["one", "two"]] * 3
    assert (work.begun, work.cancelled) == (1, 0)


async def test_when_nobody_waits_any_more_the_computation_ends(cache: StageCache) -> None:
    work = Work()
    callers = [ask(cache, work) for _ in range(3)]
    await settle()
    for caller in callers:
        caller.cancel()
    await settle()
    assert (work.begun, work.cancelled) == (1, 1)


async def test_who_comes_as_the_last_one_leaves_starts_anew(cache: StageCache) -> None:
    """Joining a computation that is being cancelled would cancel the newcomer too."""
    work = Work()
    leader = ask(cache, work)
    await settle()
    leader.cancel()
    newcomer = ask(cache, work)
    await settle()
    work.may_end.set()
    assert (await newcomer)[0] == ["one", "two"]
    assert work.begun == 2


async def test_a_failure_reaches_all_and_is_not_kept(cache: StageCache) -> None:
    broken = Work(InferenceError("broken"))
    broken.may_end.set()
    callers = [ask(cache, broken) for _ in range(3)]
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [InferenceError] * 3
    assert broken.begun == 1
    sound = Work()
    sound.may_end.set()
    assert (await ask(cache, sound)) == (["one", "two"], "miss")


async def test_another_callers_deadline_is_not_mine(cache: StageCache) -> None:
    hasty, patient = Work(DeadlineExceeded("too slow")), Work()
    first, second = ask(cache, hasty, within_s=0.01), ask(cache, patient)
    await settle()
    hasty.may_end.set()
    patient.may_end.set()
    with pytest.raises(DeadlineExceeded):
        await first
    assert (await second) == (["one", "two"], "miss")
    assert (hasty.begun, patient.begun) == (1, 1)


async def test_closing_ends_what_is_under_way(cache: StageCache) -> None:
    work = Work()
    caller = ask(cache, work)
    await settle()
    await cache.close()
    assert work.cancelled == 1
    assert isinstance((await asyncio.gather(caller, return_exceptions=True))[0], BaseException)


def test_the_least_recently_used_leaves_first() -> None:
    memory = MemoryCache(3 * 1300, ttl_s=60.0)
    for name in "abc":
        memory.put(name, name.encode() * 1000)
    assert memory.get("a") is not None
    memory.put("d", b"d" * 1000)
    assert [name for name in "abcd" if memory.get(name)] == ["a", "c", "d"]
    assert memory.size_bytes == 3 * 1300


def test_the_bound_holds_whatever_comes() -> None:
    memory = MemoryCache(10_000, ttl_s=60.0)
    for number in range(1000):
        memory.put(f"key{number % 37}", bytes(number * 17 % 12_000))
        assert memory.size_bytes <= 10_000
    held = [memory.get(f"key{number}") for number in range(37)]
    assert memory.size_bytes == sum(len(value) + 300 for value in held if value is not None) > 0


def test_a_value_larger_than_the_cache_empties_nothing() -> None:
    memory = MemoryCache(1000, ttl_s=60.0)
    memory.put("small", b"x")
    memory.put("large", bytes(2000))
    assert (memory.get("small"), memory.get("large")) == (b"x", None)


def test_no_memory_keeps_nothing() -> None:
    memory = MemoryCache(0, ttl_s=60.0)
    memory.put("key", b"")
    assert memory.get("key") is None
    assert memory.size_bytes == 0


def test_values_grow_old() -> None:
    now = [0.0]
    memory = MemoryCache(10_000, ttl_s=60.0, clock=lambda: now[0])
    memory.put("key", b"value")
    now[0] = 59.0
    assert memory.get("key") == b"value"
    now[0] = 60.0
    assert memory.get("key") is None
    assert memory.size_bytes == 0


def test_the_breaker_tries_once_a_pause_and_returns_by_itself() -> None:
    now = [0.0]
    breaker = Breaker("redis", clock=lambda: now[0])
    assert breaker.allows() and breaker.allows()
    breaker.failed(OSError("refused"))
    assert not breaker.allows()
    now[0] = RETRY_S
    assert breaker.allows()
    assert not breaker.allows(), "one call tries, not all"
    breaker.succeeded()
    assert breaker.allows() and breaker.allows()


def test_the_key_depends_on_all_that_the_value_does() -> None:
    samples = np.linspace(-1, 1, 1000, dtype=np.float32)
    other = samples.copy()
    other[500] = np.nextafter(other[500], np.float32(1))
    digests = samples_digest(Waveform(samples)), samples_digest(Waveform(other))
    keys = {
        stage_key(stage, digest, release, options)
        for stage in ("whisper", "emotion")
        for digest in digests
        for release in ("1", "2")
        for options in ("en", "de", None)
    }
    assert len(keys) == 2 * 2 * 2 * 3
    assert stage_key("vad", digests[0], "1", [1]) == stage_key("vad", digests[0], "1", [1])


def test_digests_do_not_depend_on_memory_layout() -> None:
    samples = np.arange(2000, dtype=np.float32)
    scattered, dense = Waveform(samples[::2]), Waveform(samples[::2].copy())
    assert samples_digest(scattered) == samples_digest(dense)


def test_each_stage_gives_back_what_it_got() -> None:
    regions = [Region(0.1, 1 / 3)]
    assert stages.VAD.decode(stages.VAD.encode(regions)) == regions
    segment = Segment(
        0.0,
        1.1,
        " zwölf",
        words=(Word(" zwölf", 0.1, 0.9, 0.123456789),),
        tokens=(50364, 1),
        avg_logprob=-0.1,
        logprobs=(TokenLogprob("ö", (195, 182), -0.5),),
    )
    transcripts = [
        Transcript("de", 0.9, {"de": 0.9, "nl": 0.1}, 0.01, (segment,)),
        Transcript("en", 0.5, {"en": 0.5}, 0.9, ()),
    ]
    assert stages.WHISPER.decode(stages.WHISPER.encode(transcripts)) == transcripts
    table = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    for stage in (stages.SPEAKER_EMBEDDING, stages.EMOTION):
        found = stage.decode(stage.encode(table))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"\x93NUMPY\x01\x00", b"[1, 2]", b"\xff\xfe"]
)
@pytest.mark.parametrize(
    "stage",
    [stages.VAD, stages.OVERLAP, stages.WHISPER, stages.EMOTION, stages.SPEAKER_EMBEDDING],
    ids=lambda stage: stage.name,
)
def test_foreign_bytes_are_a_value_error(stage: Stage[object], payload: bytes) -> None:
    with pytest.raises(ValueError):
        stage.decode(payload)


def test_a_pickle_is_never_opened() -> None:
    """Who can write into Redis must not be able to run code here."""
    buffer = np.array([{"a": 1}], dtype=object).dumps()
    with pytest.raises(ValueError):
        stages.EMOTION.decode(buffer)
