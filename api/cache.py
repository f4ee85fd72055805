"""What was computed once isn't computed again: by stage, in memory first, then in Redis.

A value's key is the sha256 of all it depends on: the samples, the model's release, the stage's own
options. So another `num_speakers` or another emotion release leaves Whisper's value as it is.
Simultaneous identical requests share one computation, in this process and, with Redis, across
workers. Every failure of the cache is a miss.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import orjson
import structlog

from api.cache_memory import MemoryCache
from api.cache_redis import RedisCache
from api.errors import DeadlineExceeded
from api.types import Waveform

T = TypeVar("T")

log = structlog.get_logger(__name__)

Outcome = Literal["memory", "redis", "joined", "miss"]
"""Where a value came from; "joined": another caller's computation that was under way."""

LAYOUT = 1
"""Counts up when a stage's values are written in another way, so that old ones aren't read."""


class CacheFigures(Protocol):
    """Who counts; `api.metrics.Metrics` does."""

    def cache_looked_up(self, stage: str, outcome: Outcome) -> None: ...

    def cache_failed(self, kind: str) -> None: ...

    def cache_size(self, size_bytes: int) -> None: ...


@dataclass(frozen=True)
class Stage(Generic[T]):
    """One step of an analysis whose result is kept, and how the result becomes bytes and back.

    `decode` raises ValueError for bytes that `encode` didn't make.
    """

    name: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


@dataclass(frozen=True)
class Found(Generic[T]):
    """A stage's value and where it came from."""

    value: T
    outcome: Outcome

    @property
    def is_hit(self) -> bool:
        return self.outcome != "miss"


def samples_digest(waveform: Waveform) -> str:
    """sha256 of the samples, float32 little-endian, wherever they lie; frees the GIL."""
    digest = hashlib.sha256()
    for block in waveform.blocks():
        digest.update(np.ascontiguousarray(block, dtype="<f4").data)
    return digest.hexdigest()


def stage_key(stage: str, digest: str, release: str, options: object) -> str:
    """The key of a stage's value; `options` is JSON-like and holds all else it depends on."""
    about = orjson.dumps([LAYOUT, stage, digest, release, options])
    return f"{stage}:{hashlib.sha256(about).hexdigest()}"


@dataclass
class _Flight:
    """A computation under way, and how many wait for it."""

    task: asyncio.Task[tuple[bytes, Outcome]]
    waiting: int = 0


class StageCache:
    """Memory, then Redis where there is one, then one computation for all who ask at once."""

    def __init__(
        self, memory: MemoryCache, figures: CacheFigures, redis: RedisCache | None = None
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._figures = figures
        self._flights: dict[str, _Flight] = {}

    async def get(
        self, stage: Stage[T], key: str, compute: Callable[[], Awaitable[T]], *, deadline: float
    ) -> Found[T]:
        """The value of `key`, from wherever it is found first; else what `compute` returns.

        A caller that is cancelled leaves the computation to the others who wait for it; one whose
        deadline ends a shared computation too early leaves them to start another.

        Args:
            deadline: of this caller, on `time.monotonic`'s clock; `compute` keeps to it by itself.

        Raises:
            whatever `compute` raises.
        """
        while True:
            payload = self._memory.get(key)
            if payload is not None:
                return self._found(stage, payload, "memory")
            flight = self._flights.get(key)
            joined = flight is not None
            if flight is None:
                flight = self._launch(key, self._fetch(stage, key, compute, deadline))
            try:
                payload, outcome = await self._join(key, flight)
            except DeadlineExceeded:
                if joined and time.monotonic() < deadline:
                    continue
                raise
            return self._found(stage, payload, "joined" if joined else outcome)

    async def close(self) -> None:
        """Cancel what is under way, and part from Redis."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._redis is not None:
            await self._redis.close()

    def _found(self, stage: Stage[T], payload: bytes, outcome: Outcome) -> Found[T]:
        self._figures.cache_looked_up(stage.name, outcome)
        # Each caller decodes for itself: arrays can be written to, and nobody may share them.
        return Found(stage.decode(payload), outcome)

    def _launch(self, key: str, work: Coroutine[Any, Any, tuple[bytes, Outcome]]) -> _Flight:
        flight = self._flights[key] = _Flight(asyncio.create_task(work))

        def landed(task: asyncio.Task[tuple[bytes, Outcome]]) -> None:
            self._land(key, flight)
            if not task.cancelled():
                task.exception()  # seen, even if the last waiter left in this very moment

        flight.task.add_done_callback(landed)
        return flight

    async def _join(self, key: str, flight: _Flight) -> tuple[bytes, Outcome]:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                self._land(key, flight)  # whoever asks from now on starts anew
                flight.task.cancel()

    def _land(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _fetch(
        self, stage: Stage[T], key: str, compute: Callable[[], Awaitable[T]], deadline: float
    ) -> tuple[bytes, Outcome]:
        if self._redis is None:
            return self._keep(key, stage.encode(await compute())), "miss"
        payload = self._usable(stage, await self._redis.get(key))
        if payload is not None:
            return self._keep(key, payload), "redis"
        # Half of the time that is left goes into waiting for others, half stays for doing it alone.
        wait_until = (time.monotonic() + deadline) / 2
        async with self._redis.turn(key, wait_until=wait_until) as theirs:
            payload = self._usable(stage, theirs)
            if payload is not None:
                return self._keep(key, payload), "redis"
            payload = self._keep(key, stage.encode(await compute()))
            await self._redis.put(key, payload)
        return payload, "miss"

    def _keep(self, key: str, payload: bytes) -> bytes:
        self._memory.put(key, payload)
        self._figures.cache_size(self._memory.size_bytes)
        return payload

    def _usable(self, stage: Stage[T], payload: bytes | None) -> bytes | None:
        """What came from Redis, unless something else wrote it."""
        if payload is None:
            return None
        try:
            stage.decode(payload)
        except ValueError:
            log.warning("cache_value_unreadable", stage=stage.name)
            self._figures.cache_failed("unreadable")
            return None
        return payload
