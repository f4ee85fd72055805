"""One connection's conversation with a session: reads, writes, and knows when it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import structlog

from api.errors import Conflict, IdleTimeout, InvalidMessage, VoiceAnalyticsError
from api.metrics import Metrics
from api.middleware import close_code, kind
from api.streaming.messages import (
    ConfigMessage,
    EndMessage,
    ProgressEvent,
    ReadyEvent,
    ResumedEvent,
    ResumeMessage,
    error_event,
    parse,
)
from api.streaming.neighbours import Neighbours
from api.streaming.peers import Disconnected, Peer, first_of
from api.streaming.session import Session, StreamParts
from api.streaming.sessions import Seat, Sessions

log = structlog.get_logger(__name__)

NORMAL, INTERNAL_ERROR = 1000, 1011


@contextlib.asynccontextmanager
async def open_connections(
    parts: StreamParts, folder: Path, *, max_sessions: int, resume_s: float, idle_s: float
) -> AsyncIterator[Connections]:
    """Serve live streams until the block ends; then those under way are summed up.

    Args:
        parts: what the streams need.
        folder: shared by the workers of the service.
        max_sessions: of this worker.
        resume_s: how long a session outlives its connection.
        idle_s: how long a connection may be silent.
    """
    neighbours = Neighbours(folder)
    sessions = Sessions(parts, name=neighbours.name, max_sessions=max_sessions, resume_s=resume_s)
    connections = Connections(sessions, neighbours, parts.metrics, idle_s=idle_s)
    async with neighbours.listening(connections.serve):
        try:
            yield connections
        finally:
            await sessions.close()


class Connections:
    """Serves clients: those of this worker, and those that its neighbours pass on."""

    def __init__(
        self, sessions: Sessions, neighbours: Neighbours, metrics: Metrics, *, idle_s: float
    ) -> None:
        self._sessions = sessions
        self._neighbours = neighbours
        self._metrics = metrics
        self._idle_s = idle_s

    async def serve(self, peer: Peer, request_id: str) -> int | None:
        """Serve a client until its stream is over, it is gone, or it breaks the protocol.

        Returns:
            The code to close the connection with, after the event that tells the error if there was
            one; None when the client is gone.
        """
        try:
            code: int | None = await self._serve(peer, request_id)
        except Disconnected:
            code = None
        except VoiceAnalyticsError as error:
            code = close_code(error)
            self._metrics.errors.labels(kind(error)).inc()
            event = error_event(kind(error), error.message, error.details, request_id)
            with contextlib.suppress(Disconnected):
                await peer.send(event)
        except Exception:
            code = INTERNAL_ERROR
            log.exception("unexpected_error")
            event = error_event("InternalError", "Something went wrong here", {}, request_id)
            with contextlib.suppress(Disconnected):
                await peer.send(event)
        log.info("stream_connection", code=code)
        return code

    async def _serve(self, peer: Peer, request_id: str) -> int:
        """Come back once the summary is delivered.

        Raises:
            Disconnected: the client is gone; the session waits for it.
            IdleTimeout: nothing arrived for too long; likewise.
            Conflict: another connection resumed the session.
            InvalidMessage, InvalidOption: the client broke the protocol; the session waits.
            VoiceAnalyticsError: the stream failed, or there is no such session, or no room.
        """
        first = await _receive(peer, self._idle_s)
        if isinstance(first, bytes):
            raise InvalidMessage("A stream begins with a config or resume message, not with audio")
        message = parse(first)
        if isinstance(message, EndMessage):
            raise InvalidMessage("A stream begins with a config or resume message")
        if isinstance(message, ConfigMessage):
            session, after = await self._sessions.open(message), 0
            seat, _ = self._sessions.take_seat(session)
            hello: dict[str, Any] = ReadyEvent(session_id=session.id).model_dump()
        elif self._neighbours.is_elsewhere(message.session_id):
            return await self._neighbours.forward(message.session_id, first, peer, request_id)
        else:
            session, seat, after, hello = self._resume(message)
        try:
            await peer.send(hello)
            await _converse(peer, session, seat, after, self._idle_s)
        finally:
            self._sessions.leave_seat(session, seat)
        if session.outbox.error is not None:
            raise session.outbox.error
        return NORMAL

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


async def _converse(peer: Peer, session: Session, seat: Seat, after: int, idle_s: float) -> None:
    def ack() -> dict[str, Any]:
        return ProgressEvent(
            type="ack",
            received_samples=session.received_samples,
            received_bytes=session.received_bytes,
        ).model_dump()

    delivering = session.outbox.deliver(peer.send, ack, after)
    await first_of(delivering, _read(peer, session, seat, idle_s), _given_up(seat))


async def _read(peer: Peer, session: Session, seat: Seat, idle_s: float) -> None:
    """Feed the session, waiting while it is full: then the socket isn't read either.

    What is read after another connection took the seat was never there: that one was told how much
    had been received, and sends on from there.
    """
    while True:
        limit_s = None if session.is_ended else idle_s
        received = await _receive(peer, limit_s, lambda: not session.is_waiting)
        if seat.is_taken:
            raise _resumed_elsewhere()
        session.outbox.heard_from_client()
        if isinstance(received, bytes):
            if session.is_ended:
                raise InvalidMessage("Audio came after the end")
            if not await session.receive(received, lambda: not seat.is_taken):
                raise _resumed_elsewhere()
        elif isinstance(parse(received), EndMessage):
            await session.end()
        else:
            raise InvalidMessage("A stream is configured once, by its first message")


async def _receive(
    peer: Peer, limit_s: float | None, excused: Callable[[], bool] = lambda: False
) -> str | bytes:
    """The next message; a client's silence is excused while it waits for us.

    Raises:
        IdleTimeout: none came for too long.
    """
    receiving = asyncio.ensure_future(peer.receive())
    try:
        while not receiving.done():
            await asyncio.wait({receiving}, timeout=limit_s)
            if not receiving.done() and not excused():
                raise IdleTimeout("Nothing arrived for too long", limit_s=limit_s)
        return receiving.result()
    finally:
        receiving.cancel()


async def _given_up(seat: Seat) -> None:
    await seat.taken.wait()
    raise _resumed_elsewhere()


def _resumed_elsewhere() -> Conflict:
    return Conflict("Another connection resumed this stream")
