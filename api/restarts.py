"""A Triton that is away comes back: whoever asks it meanwhile waits, and asks again.

Inference can be repeated, so a request that a dying Triton takes with it isn't lost, and one that
comes while it is away isn't refused. Only stable versions are waited for: a version on trial isn't
loaded by a restart, and whoever asked for it is answered by the stable one (`api.serving`).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from api.errors import ModelUnavailable
from api.priority import asked_again

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a request waits, within its deadline: the embedded Triton is back in 3 to 5 s with the
bundled models, and another replica answers at once. Beyond it callers get 503."""

LOOK_S = 0.2
"""Between two looks whether it is back."""

MOST_LOST = 3
"""Times that a request may be lost: it may be what the server dies of."""

REFUSED_WITHIN_S = 0.5
"""What fails so soon was refused and not lost: of several replicas one has come back, but lacks
what was promoted meanwhile."""

AWAY = frozenset({"UNAVAILABLE", "NOT_FOUND", "CANCELLED"})
"""gRPC's statuses of a server that can't be reached, died under a request, is shutting down, or
hasn't loaded the model yet. A model's own failure is INTERNAL or INVALID_ARGUMENT."""

IsReady = Callable[[str, str], Awaitable[bool]]
IsWaitedFor = Callable[[str, str], bool]
"""Whether a version of a model is one that a restart brings back."""

OnEnd = Callable[[str, bool], None]
"""Hears of each request that met a server that was away: its model, whether it was answered."""


class Restarts:
    """However many requests wait for a version, one at a time looks whether it is back."""

    def __init__(self, is_ready: IsReady, is_waited_for: IsWaitedFor, on_end: OnEnd) -> None:
        self._is_ready = is_ready
        self._is_waited_for = is_waited_for
        self._on_end = on_end
        self._looking: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ride_out(
        self, model: str, version: str, deadline: float, ask: Callable[[], Awaitable[T]]
    ) -> T:
        """What `ask` returns, as soon as the server that it asks is there.

        Args:
            deadline: on `time.monotonic`'s clock; `ask` keeps to it by itself.

        Raises:
            ModelUnavailable: it stays away, or it isn't one to wait for.
            whatever else `ask` raises.
        """
        try:
            return await ask()
        except ModelUnavailable as error:
            if error.details["status"] not in AWAY or not self._is_waited_for(model, version):
                raise
            first = error
        log.warning("triton_awaited", model=model, version=version, status=first.details["status"])
        until = min(deadline, time.monotonic() + PATIENCE_S)
        answered = False
        try:
            answer = await self._ask_again(model, version, until, ask, first)
            answered = True
            return answer
        finally:
            self._on_end(model, answered)

    async def _ask_again(
        self,
        model: str,
        version: str,
        until: float,
        ask: Callable[[], Awaitable[T]],
        error: ModelUnavailable,
    ) -> T:
        lost = 1
        while lost < MOST_LOST:
            left_s = until - time.monotonic()
            try:
                await asyncio.wait_for(self._until_ready(model, version, error), left_s)
            except asyncio.TimeoutError:
                break
            asked_at = time.monotonic()
            try:
                with asked_again():
                    return await ask()
            except ModelUnavailable as another:
                if another.details["status"] not in AWAY:
                    raise
                error = another
            if time.monotonic() - asked_at > REFUSED_WITHIN_S:
                lost += 1
            else:
                await asyncio.sleep(LOOK_S)
        raise error

    async def _until_ready(self, model: str, version: str, error: ModelUnavailable) -> None:
        async with self._looking[model, version]:
            while not await self._is_ready(model, version):
                if not self._is_waited_for(model, version):  # another one was promoted meanwhile
                    raise error
                await asyncio.sleep(LOOK_S)
