"""The other end of a live connection, whatever carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol


class Disconnected(Exception):
    """The client is gone."""


class Peer(Protocol):
    """A client."""

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            Disconnected: there won't be one.
        """
        ...

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event; waits while the client doesn't read. Raises as `receive`."""
        ...


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until one comes back or fails; cancel the others, and pass its failure on."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                task.result()
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
