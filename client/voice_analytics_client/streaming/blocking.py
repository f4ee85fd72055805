"""A live stream for code that blocks: the asynchronous one, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Self

from voice_analytics_client.answers import Analysis
from voice_analytics_client.retries import Retries
from voice_analytics_client.settings import Connection
from voice_analytics_client.streaming.aio import AsyncStream
from voice_analytics_client.streaming.events import Event
from voice_analytics_client.streaming.protocol import StreamConfig

T = TypeVar("T")


class Stream:
    """`with client.stream() as stream`: `send` audio, `take` what has arrived, `end` it, iterate
    over the rest. See `AsyncStream`."""

    def __init__(self, connection: Connection, config: StreamConfig, retries: Retries) -> None:
        self._arguments = (connection, config, retries)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._stream = self._wait_for(self._opened())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._wait_for(self._stream.close())
        finally:
            self._stop()

    @property
    def session_id(self) -> str:
        return self._stream.session_id

    def send(self, audio: bytes) -> None:
        """Say something; waits while the service has too much of it before it.

        Raises:
            VoiceAnalyticsError: the stream is over.
        """
        self._wait_for(self._stream.send(audio))

    def end(self) -> None:
        """No more audio will come; the last finals and the summary follow."""
        self._wait_for(self._stream.end())

    def finish(self) -> Analysis:
        """Say `end` and wait for the summary; events before it are dropped.

        Raises:
            VoiceAnalyticsError: the stream ended without one.
        """
        return self._wait_for(self._stream.finish())

    def take(self) -> list[Event]:
        """The events that have arrived by now."""
        return self._wait_for(self._taken())

    def __iter__(self) -> Iterator[Event]:
        events = self._stream.__aiter__()
        while True:
            try:
                yield self._wait_for(_next(events))
            except StopAsyncIteration:
                return

    async def _opened(self) -> AsyncStream:
        return await AsyncStream(*self._arguments).__aenter__()

    async def _taken(self) -> list[Event]:
        return self._stream.take()

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # Ctrl-C in the caller's thread ends the wait in the other, too
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: Any) -> Event:
    event: Event = await events.__anext__()
    return event
