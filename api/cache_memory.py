"""The first tier of the cache: the least recently used values leave when memory runs short."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_OVERHEAD_BYTES = 300
"""What an entry takes beside its value: key of 64 characters, tuple, dict slots (sys.getsizeof)."""


class MemoryCache:
    """Values by key, bounded by their bytes and their age; for one event loop, not for threads."""

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: str) -> bytes | None:
        """The value, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, value = entry
        if self._clock() >= expires:
            self.discard(key)
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: str, value: bytes) -> None:
        """Keep a value; one that is larger than the whole cache is not kept."""
        self.discard(key)
        if _cost(value) > self._max_bytes:
            return
        self._entries[key] = (self._clock() + self._ttl_s, value)
        self.size_bytes += _cost(value)
        while self.size_bytes > self._max_bytes:
            self.discard(next(iter(self._entries)))

    def discard(self, key: str) -> None:
        """Forget a value, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= _cost(entry[1])


def _cost(value: bytes) -> int:
    return len(value) + _OVERHEAD_BYTES
