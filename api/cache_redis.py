"""The second tier of the cache: Redis, shared by all workers, never needed by any.

Whatever is wrong with Redis is a miss: killed, slow, full, refusing. A breaker keeps callers from
waiting for it again and again, says so once, and lets one call a second try whether it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, cast
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from api.cancelling import cancelled
from api.errors import ConfigurationError

T = TypeVar("T")

log = structlog.get_logger(__name__)

PREFIX = "voice-analytics:"

RETRY_S = 1.0
"""How long Redis is left alone after a failure."""

LOCK_TTL_S = 10.0
"""After this a dead worker's computation is taken over; a living one renews its lock in time."""

_POLL_S, _MAX_POLL_S = 0.02, 0.2
"""First and longest pause between two looks for another worker's value."""

MAX_VALUE_BYTES = 8 * 2**20
"""Larger values stay in this process: moving them would take longer than Redis may."""

_IF_MINE = "if redis.call('get', KEYS[1]) == ARGV[1] then return {} else return 0 end"
_RELEASE = _IF_MINE.format("redis.call('del', KEYS[1])")
_RENEW = _IF_MINE.format("redis.call('pexpire', KEYS[1], ARGV[2])")
"""A lock is touched only by its holder (https://redis.io/docs/latest/commands/set/, patterns)."""


_FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class Breaker:
    """Remembers that something fails, so that it is asked once in a while and not each time."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failing = False
        self._retry_at = 0.0

    def allows(self) -> bool:
        """Whether to try; while it fails, once every `RETRY_S`."""
        if self._failing and self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + RETRY_S
        return True

    def failed(self, error: BaseException) -> None:
        self._retry_at = self._clock() + RETRY_S
        if not self._failing:
            self._failing = True
            log.warning(f"{self._name}_failed", reason=str(error) or type(error).__name__)

    def succeeded(self) -> None:
        if self._failing:
            self._failing = False
            log.info(f"{self._name}_recovered")


class RedisCache:
    """Values by key with a time to live, and turns, so that one worker computes for all."""

    def __init__(
        self, url: str, *, timeout_s: float, ttl_s: float, on_failure: Callable[[str], None]
    ) -> None:
        """Nothing is connected yet; `on_failure` is told "away", "refused" or "late" at each.

        Raises:
            ConfigurationError: the URL isn't one of Redis.
        """
        try:
            self._client: Redis = Redis.from_url(
                url,
                # `_attempt` has the say over time; this only ends what it could not.
                socket_timeout=4 * timeout_s,
                socket_connect_timeout=4 * timeout_s,
                retry=Retry(NoBackoff(), 0),  # the default tries three times before it says so
            )
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL is wrong: {error}") from error
        self._timeout_s = timeout_s
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._on_failure = on_failure
        self._reach = Breaker("redis")
        self._writes = Breaker("redis_writes")

    async def get(self, key: str) -> bytes | None:
        """The value; None when there is none, or Redis can't say."""

        async def get() -> bytes | None:
            value = await self._client.get(PREFIX + key)
            return value.encode() if isinstance(value, str) else value

        return await self._attempt(get)

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value for the time to live, if Redis can."""
        if len(value) <= MAX_VALUE_BYTES:

            async def put() -> object:
                return await self._client.set(PREFIX + key, value, px=self._ttl_ms)

            await self._write(put)

    @asynccontextmanager
    async def turn(self, key: str, *, wait_until: float) -> AsyncIterator[bytes | None]:
        """Wait for the turn to compute a value, or for the value itself from another worker.

        None means: compute it. That is also the answer when Redis fails, or when it is past
        `wait_until` (on `time.monotonic`'s clock).
        """
        lock, token = f"{PREFIX}lock:{key}", uuid4().hex
        pause_s = _POLL_S
        while not (mine := await self._acquire(lock, token)):
            if mine is None or time.monotonic() >= wait_until:
                yield None
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_POLL_S)
            if (value := await self.get(key)) is not None:
                yield value
                return
        renewal = asyncio.create_task(self._renew(lock, token))
        try:
            # Its last holder may have put the value between our look and our turn.
            yield await self.get(key)
        finally:
            await cancelled(renewal)
            await self._write(lambda: self._script(_RELEASE, lock, token))

    async def close(self) -> None:
        await self._client.aclose()

    async def _acquire(self, lock: str, token: str) -> bool | None:
        """True: it is ours; False: another's; None: Redis can't say."""
        ttl_ms = round(LOCK_TTL_S * 1000)

        async def acquire() -> bool:
            return bool(await self._client.set(lock, token, nx=True, px=ttl_ms))

        return await self._write(acquire)

    async def _renew(self, lock: str, token: str) -> None:
        ttl_ms = str(round(LOCK_TTL_S * 1000))
        while True:
            await asyncio.sleep(LOCK_TTL_S / 3)
            await self._write(lambda: self._script(_RENEW, lock, token, ttl_ms))

    async def _script(self, script: str, lock: str, *arguments: str) -> object:
        return await cast(Awaitable[object], self._client.eval(script, 1, lock, *arguments))

    async def _write(self, command: Callable[[], Awaitable[T]]) -> T | None:
        if not self._writes.allows():
            return None
        answer = await self._attempt(command)
        if answer is not None:
            self._writes.succeeded()
        return answer

    async def _attempt(self, command: Callable[[], Awaitable[T]]) -> T | None:
        if not self._reach.allows():
            return None
        started = time.monotonic()
        try:
            answer = await asyncio.wait_for(command(), self._timeout_s)
        except ResponseError as error:
            # It answers, but refuses: full, read-only, unable to save.
            self._writes.failed(error)
            self._on_failure("refused")
            return None
        except _FAILURES as error:
            if time.monotonic() - started > 2 * self._timeout_s:
                # The timeout itself came late: this process is too busy, Redis may be well.
                self._on_failure("late")
                return None
            self._reach.failed(error)
            self._on_failure("away")
            # The idle connections are as dead; left, each would be one more failure later.
            with suppress(*_FAILURES):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            return None
        self._reach.succeeded()
        return answer
