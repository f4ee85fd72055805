"""One connection's conversation with a session: reads, writes, and knows when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from api.errors import Conflict, IdleTimeout, InvalidMessage
from api.metrics import Metrics
from api.streaming.messages import (
    ConfigMessage,
    EndMessage,
    ProgressEvent,
    ReadyEvent,
    ResumedEvent,
    ResumeMessage,
    parse,
)
from api.streaming.session import Session
from api.streaming.sessions import Seat, Sessions


class Disconnected(Exception):
    """The client is gone."""


class Peer(Protocol):
    """The other end of a connection."""

    async def receive(self) -> str | bytes:
        """The next message.

        Raises:
            Disconnected: there won't be one.
        """
        ...

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event; waits while the client doesn't read. Raises as `receive`."""
        ...


class Connection:
    """Serves one client until its stream is over, it is gone, or it breaks the protocol."""

    def __init__(self, peer: Peer, sessions: Sessions, metrics: Metrics, idle_s: float) -> None:
        self._peer = peer
        self._sessions = sessions
        self._metrics = metrics
        self._idle_s = idle_s

    async def serve(self) -> None:
        """Come back once the summary is delivered.

        Raises:
            Disconnected: the client is gone; the session waits for it.
            IdleTimeout: nothing arrived for too long; likewise.
            Conflict: another connection resumed the session.
            InvalidMessage, InvalidOption: the client broke the protocol; the session waits.
            VoiceAnalyticsError: the stream failed, or there is no such session, or no room.
        """
        first = await self._receive()
        if isinstance(first, bytes):
            raise InvalidMessage("A stream begins with a config or resume message, not with audio")
        message = parse(first)
        if isinstance(message, EndMessage):
            raise InvalidMessage("A stream begins with a config or resume message")
        if isinstance(message, ConfigMessage):
            session, after = await self._sessions.open(message), 0
            seat, _ = self._sessions.take_seat(session)
            hello: dict[str, Any] = ReadyEvent(session_id=session.id).model_dump()
        else:
            session, seat, after, hello = self._resume(message)
        try:
            await self._peer.send(hello)
            await self._converse(session, seat, after)
        finally:
            self._sessions.leave_seat(session, seat)
        if session.outbox.error is not None:
            raise session.outbox.error

    def _resume(self, message: ResumeMessage) -> tuple[Session, Seat, int, dict[str, Any]]:
        session = self._sessions.find(message.session_id)
        seat, was_cut_off = self._sessions.take_seat(session)
        after = session.outbox.missed_from(message.last_seq, was_cut_off=was_cut_off)
        self._metrics.streams_resumed.inc()
        hello = ResumedEvent(
            received_samples=session.received_samples,
            received_bytes=session.received_bytes,
            ended=session.is_ended,
        )
        return session, seat, after, hello.model_dump()

    async def _converse(self, session: Session, seat: Seat, after: int) -> None:
        def ack() -> dict[str, Any]:
            return ProgressEvent(
                type="ack",
                received_samples=session.received_samples,
                received_bytes=session.received_bytes,
            ).model_dump()

        delivering = session.outbox.deliver(self._peer.send, ack, after)
        await first_of(delivering, self._read(session), _given_up(seat))

    async def _read(self, session: Session) -> None:
        """Feed the session, waiting while it is full: then the socket isn't read either."""
        while True:
            received = await self._receive(forever=session.is_ended)
            session.outbox.heard_from_client()
            if isinstance(received, bytes):
                if session.is_ended:
                    raise InvalidMessage("Audio came after the end")
                await session.receive(received)
            elif isinstance(parse(received), EndMessage):
                await session.end()
            else:
                raise InvalidMessage("A stream is configured once, by its first message")

    async def _receive(self, *, forever: bool = False) -> str | bytes:
        try:
            limit_s = None if forever else self._idle_s
            return await asyncio.wait_for(self._peer.receive(), limit_s)
        except asyncio.TimeoutError as error:
            raise IdleTimeout("Nothing arrived for too long", limit_s=self._idle_s) from error


async def _given_up(seat: Seat) -> None:
    await seat.taken.wait()
    raise Conflict("Another connection resumed this stream")


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
