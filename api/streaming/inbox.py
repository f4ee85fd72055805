"""Bytes that a client sent and nobody has looked at yet: bounded, and whoever fills it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Inbox:
    """One writer, one reader."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._changed = asyncio.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._data)

    async def put(self, data: bytes, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Add bytes, once less than the bound is waiting, unless they aren't wanted by then.

        Returns:
            Whether they were wanted; those for a closed inbox are dropped all the same.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: len(self) < self._max_bytes or self._is_closed)
            if not is_wanted():
                return False
            if not self._is_closed:
                self._data += data
                self._changed.notify_all()
            return True

    async def take(self, max_bytes: int) -> bytes | None:
        """The next bytes, at most so many; None when the inbox is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._data) or self._is_closed)
            data = bytes(self._data[:max_bytes])
            del self._data[:max_bytes]
            self._changed.notify_all()
            return data or None

    async def close(self) -> None:
        """No more will come."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()
