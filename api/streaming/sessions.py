"""The live streams of this process: how many there may be, and how long one outlives its client."""

from __future__ import annotations

import asyncio
import secrets

import structlog

from api.errors import NotFound, Overloaded
from api.streaming.messages import ConfigMessage
from api.streaming.session import Session, StreamParts

log = structlog.get_logger(__name__)

SHUTDOWN_S = 20.0
"""How long the streams under way may take to be summed up when the service stops."""


class Seat:
    """A connection's hold on a session, until another connection takes it."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    @property
    def is_taken(self) -> bool:
        return self.taken.is_set()


class Sessions:
    """Opens sessions, finds them again, and finishes those whose client doesn't come back."""

    def __init__(
        self, parts: StreamParts, *, name: str, max_sessions: int, resume_s: float
    ) -> None:
        """Take the process' name, with which every session's id begins."""
        self._parts = parts
        self._name = name
        self._max_sessions = max_sessions
        self._resume_s = resume_s
        self._sessions: dict[str, Session] = {}
        self._seats: dict[str, Seat] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._is_closing = False

    async def open(self, config: ConfigMessage) -> Session:
        """A new session, once the models accept its options.

        Raises:
            Overloaded: there are as many as there may be, or the service is stopping.
            InvalidOption: the language isn't one of Whisper's.
            VoiceAnalyticsError: see `Recognizer.check` and `ProfileStore.all`.
        """
        self._check_room()
        await self._parts.recognizer.check(config.options(), self._parts.serving.stable)
        options = config.options()
        wanted = options.diarize and options.identify_speakers
        profiles = await self._parts.profiles.all() if wanted else []
        self._check_room()
        session = Session(
            f"{self._name}-{secrets.token_urlsafe(24)}", config, self._parts, profiles
        )
        self._sessions[session.id] = session
        self._parts.metrics.streams.inc()
        session.done.add_done_callback(lambda _: self._parts.metrics.streams.dec())
        return session

    def find(self, session_id: str) -> Session:
        """A session that was opened earlier.

        Raises:
            NotFound: it is over for long, or lives in another process.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFound(
                "There is no such stream here",
                session_id="It ended, was not resumed in time, or lives on another machine",
            )
        return session

    def take_seat(self, session: Session) -> tuple[Seat, bool]:
        """Connect to a session; also tells whether another connection had to give way."""
        before = self._seats.pop(session.id, None)
        if before is not None:
            before.taken.set()
        expiry = self._expiries.pop(session.id, None)
        if expiry is not None:
            expiry.cancel()
        seat = self._seats[session.id] = Seat()
        session.connected()
        return seat, before is not None

    def leave_seat(self, session: Session, seat: Seat) -> None:
        """The connection is gone; the session waits for the next one."""
        if self._seats.get(session.id) is not seat:
            return
        del self._seats[session.id]
        if session.id in self._sessions and not self._is_closing:
            loop = asyncio.get_running_loop()
            self._expiries[session.id] = loop.call_later(self._resume_s, self._expire, session)

    async def close(self) -> None:
        """Sum up what is under way, for a while, then give up on the rest."""
        self._is_closing = True
        for expiry in self._expiries.values():
            expiry.cancel()
        running = [s for s in self._sessions.values() if not s.done.done()]
        for session in running:
            await session.end()
        tasks = [session.done for session in running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=SHUTDOWN_S)
            log.info("streams_closed", finished=len(tasks) - len(late), lost=len(late))
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._sessions.clear()

    def _check_room(self) -> None:
        if self._is_closing:
            raise Overloaded("The service is stopping")
        running = sum(not session.done.done() for session in self._sessions.values())
        if running >= self._max_sessions:
            raise Overloaded("Too many live streams", limit=self._max_sessions)

    def _expire(self, session: Session) -> None:
        self._expiries.pop(session.id, None)
        task = asyncio.create_task(self._finish(session))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _finish(self, session: Session) -> None:
        """Flush a session that nobody came back to; its summary is kept as any analysis is."""
        if not session.done.done():
            log.info("stream_expired", session=session.id[:8])
            await session.end()
            await asyncio.wait({session.done})
        if session.id not in self._seats:
            self._sessions.pop(session.id, None)
