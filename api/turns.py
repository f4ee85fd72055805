"""Keeps a crowd from holding up the event loop.

The loop lets everybody go on who can before it looks around again: 64 uploads that arrive together
are 64 chunks to parse before anybody else is heard, /health among them. Whoever has work of
milliseconds for the loop takes a turn first.
"""

from __future__ import annotations

import asyncio


class Turns:
    """One task goes on at a time, in order of arrival, with a round of the loop in between."""

    def __init__(self) -> None:
        self._mine = asyncio.Lock()

    async def take(self) -> None:
        """Returns when it is the caller's turn, which lasts until they wait for something."""
        async with self._mine:
            await asyncio.sleep(0)
