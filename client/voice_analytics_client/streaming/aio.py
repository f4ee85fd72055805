"""A live stream on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import NoReturn

import httpx
from typing_extensions import Self
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from voice_analytics_client.answers import Analysis
from voice_analytics_client.errors import (
    ServiceError,
    ServiceUnreachable,
    StreamLost,
    VoiceAnalyticsError,
)
from voice_analytics_client.requests import error_of
from voice_analytics_client.retries import Retries
from voice_analytics_client.settings import CONNECT_TIMEOUT_S, Connection
from voice_analytics_client.streaming.events import Event, Final, Partial, Summary
from voice_analytics_client.streaming.protocol import ABNORMAL, END, StreamConfig, StreamState

UNACKNOWLEDGED_BYTES = 2**24
"""`send` waits beyond it. While a service waits for its client, 60 s, the largest stream (32-bit at
48 kHz) makes 11.5 MB."""

SILENCE_S = 20.0
"""The service says something twice a second; after this long the connection is dead, even if no
packet says so."""

HANG_UP_S = 1.0
"""Longest wait for a last word to go out."""

RESUMING = Retries(attempts=None, within_s=60.0, first_s=0.2, longest_s=3.0)
"""How a lost connection is taken up again: for as long as STREAM_RESUME_SECONDS by default."""


class AsyncStream:
    """`async with client.stream() as stream`: `send` audio, `end` it, iterate over the events.

    Sending and reading may be done by two tasks or by one: what arrives waits until it is read, a
    partial only until a newer one or its final replaces it.
    """

    def __init__(self, connection: Connection, config: StreamConfig, retries: Retries) -> None:
        self._connection = connection
        self._retries = retries
        self._state = StreamState(config)
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._to_send = asyncio.Event()
        self._room = asyncio.Event()
        self._said_end = asyncio.Event()
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._wake())
        try:
            while self._state.session_id is None:
                self._check()
                await self._next_news()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; the service sums up and keeps what it has heard."""
        if self._task is None:
            return
        if self._state.is_greeted and not self._is_over:
            self._state.hang_up()
            self._to_send.set()
            # Without an end the service would hold a place for a client that never comes back.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._said_end.wait(), HANG_UP_S)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def session_id(self) -> str:
        return self._state.session_id or ""

    async def send(self, audio: bytes) -> None:
        """Say something; waits while the service has too much of it before it.

        Raises:
            VoiceAnalyticsError: the stream is over.
        """
        while self._state.unacknowledged_bytes > UNACKNOWLEDGED_BYTES:
            self._check()
            self._room.clear()
            await self._room.wait()
        self._check()
        self._state.push(audio)
        self._to_send.set()

    async def end(self) -> None:
        """No more audio will come; the last finals and the summary follow."""
        self._state.end()
        self._to_send.set()

    async def finish(self) -> Analysis:
        """Say `end` and wait for the summary; events before it are dropped.

        Raises:
            VoiceAnalyticsError: the stream ended without one.
        """
        await self.end()
        async for event in self:
            if isinstance(event, Summary):
                return event.analysis
        raise StreamLost("The stream ended without a summary")

    def take(self) -> list[Event]:
        """The events that have arrived by now."""
        events = list(self._events)
        self._events.clear()
        return events

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return
            await self._next_news()

    @property
    def _is_over(self) -> bool:
        return self._task is None or self._task.done()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._is_over:
            raise StreamLost("The stream is over")

    async def _next_news(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._room.set()

    async def _run(self) -> None:
        try:
            await self._across_connections()
        except Exception as error:
            self._error = error

    async def _across_connections(self) -> None:
        """Talk until the stream is over, through as many connections as it takes.

        Raises:
            VoiceAnalyticsError: it ended otherwise than with a summary.
        """
        tries, lost_at = 0, time.monotonic()
        while True:
            error = await self._one_connection()
            if error is None:
                return
            has_begun = self._state.session_id is not None
            if self._state.is_greeted:
                if isinstance(error, ServiceError):
                    raise error
                tries, lost_at = 0, time.monotonic()
            tries += 1
            wait_s = (RESUMING if has_begun else self._retries).wait_s(
                error, tries=tries, elapsed_s=time.monotonic() - lost_at, is_repeatable=True
            )
            if wait_s is None:
                raise error
            await asyncio.sleep(wait_s)

    async def _one_connection(self) -> VoiceAnalyticsError | None:
        """Connect and talk until the connection ends; what that means, None = the stream is over.

        Raises:
            UnexpectedAnswer: what came isn't the protocol.
        """
        first = self._state.connecting()
        try:
            async with connect(
                self._connection.stream_url,
                additional_headers=self._connection.headers,
                user_agent_header=None,
                compression=None,
                max_size=None,
                open_timeout=CONNECT_TIMEOUT_S,
                ping_timeout=None,  # SILENCE_S; behind a flood of audio the answers come late
                close_timeout=1,
            ) as socket:
                await self._converse(socket, first)
        except ConnectionClosed as error:
            return self._state.closed(ABNORMAL if error.rcvd is None else error.rcvd.code)
        except asyncio.TimeoutError:
            return self._state.closed(ABNORMAL)
        except InvalidStatus as error:
            return _refused(error.response)
        except (OSError, InvalidHandshake) as error:
            return ServiceUnreachable(f"The service can't be reached: {error}", was_sent=False)

    async def _converse(self, socket: ClientConnection, first: str) -> NoReturn:
        """Talk until the connection ends.

        Raises:
            ConnectionClosed: it was closed, or broke.
            asyncio.TimeoutError: it is dead.
        """
        writing = asyncio.create_task(self._write(socket, first))
        try:
            while True:
                event = self._state.heard(await asyncio.wait_for(socket.recv(), SILENCE_S))
                if event is not None:
                    self._tell(event)
                self._room.set()
                self._to_send.set()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, socket: ClientConnection, first: str) -> None:
        # Whoever reads learns of a close too, with its reason.
        with contextlib.suppress(ConnectionClosed):
            await socket.send(first)
            while True:
                self._to_send.clear()
                while (message := self._state.next_message()) is not None:
                    await socket.send(message)
                    if message == END:
                        self._said_end.set()
                await self._to_send.wait()

    def _tell(self, event: Event) -> None:
        is_newer = isinstance(event, (Partial, Final))
        if is_newer and self._events and isinstance(self._events[-1], Partial):
            self._events.pop()
        self._events.append(event)
        self._news.set()


def _refused(response: Response) -> VoiceAnalyticsError:
    """What an answer says that isn't the switch to a WebSocket."""
    answer = httpx.Response(
        response.status_code,
        content=bytes(response.body),
        headers=dict(response.headers.raw_items()),
        request=httpx.Request("GET", "/audio/stream"),
    )
    return error_of(answer)
