"""How much one caller may ask for: requests per minute, and requests in flight.

Both are counted over all workers of a machine by files that the kernel locks, and with Redis over
all machines. When Redis is away or slow, each machine counts for itself: nobody waits for it, and
nobody is let in without a count.

The rate is a token bucket, kept as one number: the time at which the bucket would be full again
(the generic cell rate algorithm; ITU-T I.371, annex A, or https://brandur.org/rate-limiting).

`limits`, the library behind flask-limiter, was looked at: its counters live in one process or in
Redis, and it knows no requests in flight, so the files and most of the script below would remain.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.cache_redis import PREFIX, Breaker
from api.cancelling import cancelled
from api.errors import ConfigurationError, RateLimited

WINDOW_S = 60.0
"""The bucket holds as many tokens as come back within it."""

LEASE_S = 30.0
"""After this, what a dead machine had in flight counts no more; a living one renews in time."""

_PRECISION_S = 1e-6
"""Sums of floats that should be equal differ by less."""

_FULL_AT = struct.Struct("d")
_FLOCK = struct.Struct("hhqqi")
"""`struct flock` of fcntl(2) on 64-bit Linux: type, whence, start, length, pid."""

_ADMIT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local per_window, window_s = tonumber(ARGV[1]), tonumber(ARGV[2])
local concurrent, lease_s = tonumber(ARGV[3]), tonumber(ARGV[5])
if concurrent > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= concurrent then return 'concurrent' end
end
if per_window > 0 then
  local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
  full_at = full_at + window_s / per_window
  local wait = full_at - now - window_s
  if wait > 0.000001 then return string.format('%.6f', wait) end
  redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'EX', math.ceil(window_s) + 1)
end
if concurrent > 0 then
  redis.call('ZADD', KEYS[2], now + lease_s, ARGV[4])
  redis.call('EXPIRE', KEYS[2], math.ceil(lease_s) + 1)
end
return ''
"""
"""One caller's request: '' lets it in; 'concurrent', or the seconds to wait for the next token."""

_RENEW = """
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'XX', clock[1] + clock[2] / 1000000 + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[2]) + 1)
"""


class LimitFigures(Protocol):
    """Who counts; `api.metrics.Metrics` does."""

    def rate_limited(self, caller: str, bound: str) -> None: ...

    def limits_failed(self, kind: str) -> None: ...


@dataclass(frozen=True)
class Bounds:
    """What each caller may have; 0 = no bound."""

    per_minute: int
    concurrent: int

    def check(self, answer: str) -> None:
        """Raise RateLimited for every answer of a count but "", which lets in."""
        if answer == "concurrent":
            raise RateLimited(
                "Too many requests of this key in flight", bound=answer, limit=self.concurrent
            )
        if answer:
            raise RateLimited(
                "Too many requests of this key within a minute",
                retry_after_s=math.ceil(float(answer)),
                bound="rate",
                limit=self.per_minute,
            )


class RedisSilent(Exception):
    """Redis gave no answer in time."""


class CallerLimits:
    """Lets callers in, by name, as long as they keep to their bounds."""

    def __init__(
        self,
        bounds: Bounds,
        folder: Path,
        figures: LimitFigures,
        redis: RedisCount | None = None,
    ) -> None:
        """Nothing is opened yet; the `folder` is shared by the workers of this machine."""
        self._bounds = bounds
        self._files = FileCount(folder, bounds)
        self._redis = redis
        self._figures = figures
        self._breaker = Breaker("limits")

    @asynccontextmanager
    async def admitted(self, caller: str) -> AsyncIterator[None]:
        """Count one request of `caller`, as in flight until the block ends.

        Raises:
            RateLimited: a bound is reached; says when to come back.
        """
        async with AsyncExitStack() as stack:
            if self._bounds != Bounds(0, 0):
                try:
                    await self._count(caller, stack)
                except RateLimited as error:
                    self._figures.rate_limited(caller, error.details["bound"])
                    raise
            yield

    async def close(self) -> None:
        self._files.close()
        if self._redis is not None:
            await self._redis.close()

    async def _count(self, caller: str, stack: AsyncExitStack) -> None:
        if self._redis is not None:
            try:
                await stack.enter_async_context(self._redis.admitted(caller, self._bounds))
                return
            except RedisSilent:
                self._figures.limits_failed("redis")
        try:
            stack.enter_context(self._files.admitted(caller))
        except OSError as error:  # a full disk, say: better served without a count than not at all
            self._breaker.failed(error)
            self._figures.limits_failed("files")


class FileCount:
    """Counts over the processes of one machine; what a dead one held is free at once."""

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._rates: dict[str, int] = {}

    @contextmanager
    def admitted(self, caller: str) -> Iterator[None]:
        """Raises RateLimited, or OSError for what the disk refuses."""
        with ExitStack() as stack:
            if self._bounds.concurrent:
                file = self._open(f"{caller}.slots")
                stack.callback(os.close, file)
                self._bounds.check("" if self._take_slot(file) else "concurrent")
            if self._bounds.per_minute:
                self._bounds.check(self._take_token(caller))
            yield

    def close(self) -> None:
        while self._rates:
            os.close(self._rates.popitem()[1])

    def _take_slot(self, file: int) -> bool:
        """Lock a byte of an open file. The lock is the open file's and not the process', so that
        each request has its own, and the kernel drops it with the file."""
        for slot in range(self._bounds.concurrent):
            with suppress(BlockingIOError):
                lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, slot, 1, 0)
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
                return True
        return False

    def _take_token(self, caller: str) -> str:
        """ "" where there is one; else the seconds to wait for it."""
        if caller not in self._rates:
            self._rates[caller] = self._open(f"{caller}.rate")
        file = self._rates[caller]
        fcntl.flock(file, fcntl.LOCK_EX)  # nobody keeps it for longer than these lines take
        try:
            now = time.time()
            kept = os.pread(file, _FULL_AT.size, 0)
            full_at = _FULL_AT.unpack(kept)[0] if kept else now
            # Only a clock that was set back lets it lie beyond a window.
            full_at = min(max(now, full_at), now + WINDOW_S) + WINDOW_S / self._bounds.per_minute
            wait_s = full_at - now - WINDOW_S
            if wait_s > _PRECISION_S:
                return f"{wait_s:.6f}"
            os.pwrite(file, _FULL_AT.pack(full_at), 0)
            return ""
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def _open(self, name: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)


class RedisCount:
    """Counts over all machines that share a Redis."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigurationError: the URL isn't one of Redis.
        """
        try:
            self._client: Redis = Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=4 * timeout_s,  # `_ask` has the say over time
                socket_connect_timeout=4 * timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigurationError(f"REDIS_URL is wrong: {error}") from error
        self._timeout_s = timeout_s
        self._breaker = Breaker("redis_limits")

    @asynccontextmanager
    async def admitted(self, caller: str, bounds: Bounds) -> AsyncIterator[None]:
        """Raises RateLimited or RedisSilent."""
        rate, leases = (f"{PREFIX}limits:{{{caller}}}:{what}" for what in ("rate", "leases"))
        lease = uuid4().hex
        arguments = (bounds.per_minute, WINDOW_S, bounds.concurrent, lease, LEASE_S)
        bounds.check(str(await self._ask("EVAL", _ADMIT, 2, rate, leases, *arguments)))
        if not bounds.concurrent:
            yield
            return
        renewal = asyncio.create_task(self._renew(leases, lease))
        try:
            yield
        finally:
            await cancelled(renewal)
            with suppress(RedisSilent):  # then it lapses
                await self._ask("ZREM", leases, lease)

    async def close(self) -> None:
        await self._client.aclose()

    async def _renew(self, leases: str, lease: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(RedisSilent):
                await self._ask("EVAL", _RENEW, 1, leases, lease, LEASE_S)

    async def _ask(self, *command: str | int | float) -> object:
        if not self._breaker.allows():
            raise RedisSilent
        try:
            answer: object = await asyncio.wait_for(
                self._client.execute_command(*command),  # type: ignore[no-untyped-call]
                self._timeout_s,
            )
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            self._breaker.failed(error)
            # The idle connections are as dead; left, each would be one more failure later.
            with suppress(RedisError, OSError):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise RedisSilent from error
        self._breaker.succeeded()
        return answer
