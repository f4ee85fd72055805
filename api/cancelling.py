"""End tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_S: Final = 0.5
"""How long a task may take to end before it is told once more."""


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and come back when they have ended; what they raise is dropped.

    Before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes in the very moment in
    which its result is there (bpo-42130). A loop around it then goes on, and whoever waits for its
    end waits for ever: so it is told again.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()
