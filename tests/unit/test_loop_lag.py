"""Whoever blocks the event loop is seen."""

from __future__ import annotations

import asyncio
import time

from api.loop_lag import INTERVAL_S, watched


async def test_a_blocked_loop_is_seen_and_a_free_one_is_not_late() -> None:
    seen: list[float] = []
    async with watched(seen.append):
        await asyncio.sleep(5 * INTERVAL_S)
        free = len(seen)
        time.sleep(INTERVAL_S + 0.2)  # noqa: ASYNC251 - it is the loop that shall be blocked
        await asyncio.sleep(INTERVAL_S)
    assert 1 <= free <= 5
    assert max(seen[free:]) >= 0.2
    ended = len(seen)
    await asyncio.sleep(2 * INTERVAL_S)
    assert len(seen) == ended
