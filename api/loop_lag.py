"""How late the event loop comes to what is due: whoever blocks it, blocks everybody at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

INTERVAL_S = 0.05
"""Between two looks, each of which wakes the process up: at 20 a second they cost an idle machine
half a percent of a core. What blocks the loop for longer than this can't hide between them."""


@contextlib.asynccontextmanager
async def watched(observe: Callable[[float], None]) -> AsyncIterator[None]:
    """Tell `observe` at each look how late it came, in seconds, until the block ends."""
    task = asyncio.create_task(_look(observe), name="loop-lag")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _look(observe: Callable[[float], None]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        observe(max(0.0, loop.time() - due))
