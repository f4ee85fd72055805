"""What a stream has to tell its client, across connections.

Finals and the summary are numbered and kept, so that a client that lost its connection gets what it
missed. Partials are worth something only at once: a slow client gets the latest, never a queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from api.errors import VoiceAnalyticsError
from api.streaming.messages import FinalEvent, PartialEvent, SummaryEvent

ACK_INTERVAL_S = 0.5
"""Clients are promised one a second, also through the jitter of a busy event loop."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Outbox:
    """One per stream; at most one connection delivers from it at a time."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._partial: PartialEvent | None = None
        self._news = asyncio.Event()
        self._sent = 0
        self._confirmed = 0
        self.is_closed = False
        self.error: VoiceAnalyticsError | None = None

    def add(self, event: FinalEvent | SummaryEvent) -> None:
        """Number an event and keep it; it makes the partial of its utterance obsolete."""
        event.seq = len(self._kept) + 1
        self._kept.append(event.model_dump(mode="json"))
        self._partial = None
        self._news.set()

    def show(self, partial: PartialEvent) -> None:
        """Replace the partial that is shown."""
        self._partial = partial
        self._news.set()

    def close(self, error: VoiceAnalyticsError | None = None) -> None:
        """Nothing more will come but, perhaps, an error."""
        self.is_closed = True
        self.error = error
        self._news.set()

    def heard_from_client(self) -> None:
        """The client was there a moment ago, and so has what was sent before."""
        self._confirmed = self._sent

    def missed_from(self, last_seq: int | None, *, was_cut_off: bool) -> int:
        """Number of the last event that a returning client has.

        It says so itself with `last_seq`. If it doesn't, it has what was sent; but when the server
        had not even noticed that the connection was lost, only what was sent before it last heard
        from the client.
        """
        if last_seq is not None:
            return min(last_seq, len(self._kept))
        return self._confirmed if was_cut_off else self._sent

    async def deliver(self, send: Send, ack: Callable[[], dict[str, Any]], after: int) -> None:
        """Send what comes behind event number `after`, and acks, until the stream is over."""
        self._sent = after
        next_ack = time.monotonic()
        while True:
            self._news.clear()
            # Taken together, so that no ack comes behind the last event.
            is_over, events = self.is_closed, self._kept[self._sent :]
            if is_over or time.monotonic() >= next_ack:
                await send(ack())
                next_ack = time.monotonic() + ACK_INTERVAL_S
            for event in events:
                await send(event)
                self._sent = event["seq"]
            if self._partial is not None:
                partial, self._partial = self._partial, None
                await send(partial.model_dump(mode="json"))
            if is_over:
                return
            await self._wait(next_ack - time.monotonic())

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), max(seconds, 0.0))
        except asyncio.TimeoutError:
            return
