"""Callers that ask as real ones do: what fails in passing they ask again, and write it down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any, Final
from uuid import uuid4

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.load.clips import SAMPLE_RATE_HZ
from benchmarks.soak.answers import differences, essence
from benchmarks.soak.ledger import Accepted, Ledger, Route
from benchmarks.soak.recordings import Recording, numbers, wav

PATIENCE_S: Final = 180.0
"""Whoever isn't answered by then, tries included, never was."""

_FRESH: Final = 0.8
"""Share of requests whose recording no cache knows."""

_DROPPED: Final = 0.25
"""Share of streams whose caller loses its connection once, and resumes."""

_SPEED: Final = 4.0
"""Callers speak so many times faster than people, to make more streams of an hour."""

_FRAME_S: Final = 0.2
_RETRY_S: Final = 1.0


class GaveUp(Exception):
    """Nobody could be asked any longer; the ledger says why."""


class Callers:
    """Asks one service, judges each answer at once, and keeps the ledger."""

    def __init__(self, url: str, labels: list[str], ledger: Ledger, seed: int) -> None:
        """`labels`: of version 1 of `emotion`."""
        self._url = url
        self._labels = labels
        self._ledger = ledger
        self._random = random.Random(seed)
        self._numbers = numbers()
        # A connection each: one that waited in a pool would have died with its worker long ago.
        self._http = httpx.AsyncClient(
            base_url=url, timeout=PATIENCE_S, headers={"Connection": "close"}
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, route: Route, recording: Recording, *, quiet: bool = False) -> None:
        """One recording by one way; nothing is raised, everything is in the ledger."""
        fresh = not quiet and self._random.random() < _FRESH
        samples = recording.copy(next(self._numbers) if fresh else 0)
        began_s = self._ledger.now_s()
        taken = Accepted(route, recording.name, "", began_s)
        drop = not quiet and self._random.random() < _DROPPED
        with contextlib.suppress(GaveUp):
            if route == "analysis":
                await self._analyze(taken, wav(samples))
            elif route == "job":
                await self._work(taken, wav(samples))
            else:
                await self._speak(taken, samples.astype("<i2").tobytes(), drop)
        if taken.answer is None:
            return
        taken.latency_s = self._ledger.now_s() - began_s
        self._compare(taken, quiet)

    async def stored(self, analysis_id: str) -> dict[str, Any] | None:
        """An analysis as the store has it; None where it has none."""
        answer = await self.request("GET", f"/audio/analyses/{analysis_id}", allowed=(200, 404))
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    async def request(
        self, method: str, path: str, *, allowed: tuple[int, ...] = (200,), **about: Any
    ) -> httpx.Response:
        """An answer with an allowed status; broken connections and 503 are tried again.

        Raises:
            GaveUp: any other answer, or none within `PATIENCE_S`.
        """
        deadline_s = self._ledger.now_s() + PATIENCE_S
        while True:
            began_s = self._ledger.now_s()
            if began_s > deadline_s:
                self._give_up("unanswered", f"{method} {path}: tried for {PATIENCE_S:.0f} s")
            try:
                answer = await self._http.request(method, path, **about)
            except httpx.TransportError as error:
                self._ledger.trouble("connection broken", f"{method} {path}: {error!r}", began_s)
                await asyncio.sleep(_RETRY_S)
                continue
            if answer.status_code in allowed:
                return answer
            said = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                self._give_up("error", said)
            self._ledger.trouble("503", said, began_s)
            await asyncio.sleep(float(answer.headers["retry-after"]))

    def _give_up(self, kind: str, what: str) -> None:
        self._ledger.fault(kind, what)
        raise GaveUp

    def _compare(self, taken: Accepted, quiet: bool) -> None:
        assert taken.answer is not None
        found = essence(taken.answer, self._labels)
        if quiet:
            self._ledger.quiet[taken.route, taken.recording] = found
            if taken.finals is not None:
                self._ledger.quiet_finals[taken.recording] = taken.finals
            return
        wrong = differences(self._ledger.quiet[taken.route, taken.recording], found)
        if taken.finals is not None:
            wrong += differences(self._ledger.quiet_finals[taken.recording], taken.finals, "finals")
        if wrong:
            versions = {name: about["version"] for name, about in taken.answer["models"].items()}
            what = f"{taken.route} of {taken.recording} ({taken.id}) by {versions}: "
            self._ledger.fault("different", what + "; ".join(wrong[:5]))

    async def _analyze(self, taken: Accepted, file: bytes) -> None:
        answer = await self.request("POST", "/audio/analyze", files={"file": file})
        taken.answer = answer.json()
        taken.id = answer.json()["id"]
        self._ledger.accepted.append(taken)

    async def _work(self, taken: Accepted, file: bytes) -> None:
        headers = {"Idempotency-Key": str(uuid4())}
        answer = await self.request(
            "POST", "/audio/jobs", allowed=(202,), files={"file": file}, headers=headers
        )
        taken.id = answer.json()["id"]
        self._ledger.accepted.append(taken)
        waited_from_s = self._ledger.now_s()
        while True:
            job = (await self.request("GET", f"/audio/jobs/{taken.id}")).json()
            if job["status"] in ("succeeded", "failed", "cancelled"):
                break
            if self._ledger.now_s() - waited_from_s > 2 * PATIENCE_S:
                return  # whoever judges says that it never ended
            await asyncio.sleep(0.5)
        taken.end = job["status"]
        if job["status"] == "succeeded":
            found = await self.request("GET", f"/audio/analyses/{job['analysis_id']}")
            taken.answer = found.json()

    async def _speak(self, taken: Accepted, audio: bytes, drop: bool) -> None:
        deadline_s = self._ledger.now_s() + PATIENCE_S
        talk = _Talk(audio, len(audio) // 2 if drop else None)
        while talk.summary is None:
            began_s = self._ledger.now_s()
            if began_s > deadline_s:
                self._give_up("unanswered", f"stream: tried for {PATIENCE_S:.0f} s")
            try:
                await self._converse(talk)
            except (OSError, InvalidHandshake, ConnectionClosed) as error:
                if not talk.dropped_now:
                    self._ledger.trouble("connection broken", f"stream: {error!r}", began_s)
                    await asyncio.sleep(_RETRY_S)
                talk.dropped_now = False
            except _Refused as refused:
                if refused.code == 4404:
                    self._ledger.trouble("stream lost", str(refused), began_s)
                elif refused.code in (1011, 1013):
                    self._ledger.trouble("stream refused", str(refused), began_s)
                else:
                    self._give_up("error", f"stream: {refused}")
                talk = _Talk(audio, None)
                await asyncio.sleep(_RETRY_S)
        taken.id = talk.summary["id"]
        taken.answer = talk.summary
        taken.finals = talk.finals
        self._ledger.accepted.append(taken)

    async def _converse(self, talk: _Talk) -> None:
        """One connection's part of a stream, until the summary came or it broke.

        Raises:
            _Refused: the server said why it goes no further.
            OSError, InvalidHandshake, ConnectionClosed: the connection is gone.
        """
        url = self._url.replace("http", "ws", 1) + "/audio/stream"
        async with connect(url, max_size=None, ping_interval=None, open_timeout=30) as socket:
            await socket.send(json.dumps(talk.first_message()))
            speaking: asyncio.Task[None] | None = None
            try:
                while talk.summary is None:
                    event = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
                    if talk.hear(event):
                        self._ledger.resumed += event["type"] == "resumed"
                        speaking = asyncio.create_task(self._send(socket, talk))
            except asyncio.TimeoutError:
                self._give_up("unanswered", f"stream: silent for {PATIENCE_S:.0f} s")
            finally:
                if speaking is not None:
                    speaking.cancel()
                    await asyncio.gather(speaking, return_exceptions=True)

    async def _send(self, socket: ClientConnection, talk: _Talk) -> None:
        size = round(_FRAME_S * SAMPLE_RATE_HZ) * 2
        with contextlib.suppress(ConnectionClosed):
            for start in range(talk.received, len(talk.audio), size):
                if talk.drop_at is not None and start >= talk.drop_at:
                    talk.drop_at, talk.dropped_now = None, True
                    socket.transport.abort()
                    return
                await socket.send(talk.audio[start : start + size])
                await asyncio.sleep(_FRAME_S / _SPEED)
            await socket.send('{"type": "end"}')


class _Refused(Exception):
    """The server closed a stream and said why."""

    def __init__(self, code: int, event: dict[str, Any]) -> None:
        super().__init__(f"{code} {event['error']}: {event['message']}")
        self.code = code


_CODES: Final = {"NotFound": 4404, "ModelUnavailable": 1013, "StoreUnavailable": 1011}


class _Talk:
    """What one caller knows of its stream, over all its connections.

    Attributes:
        received: bytes that the server said it has.
        drop_at: at which byte the caller's own connection breaks.
    """

    def __init__(self, audio: bytes, drop_at: int | None) -> None:
        self.audio = audio
        self.drop_at = drop_at
        self.dropped_now = False
        self.received = 0
        self.finals: list[str] = []
        self.summary: dict[str, Any] | None = None
        self._session: str | None = None
        self._last_seq = 0

    def first_message(self) -> dict[str, Any]:
        if self._session is None:
            return {"type": "config", "encoding": "s16le", "sample_rate": SAMPLE_RATE_HZ}
        return {"type": "resume", "session_id": self._session, "last_seq": self._last_seq}

    def hear(self, event: dict[str, Any]) -> bool:
        """Takes in an event; returns whether audio may be sent from now on.

        Raises:
            _Refused: the event is an error.
        """
        kind = event["type"]
        if kind == "error":
            raise _Refused(_CODES.get(event["error"], 0), event)
        if "seq" in event:
            self._last_seq = event["seq"]
        if kind == "ready":
            self._session = event["session_id"]
        elif kind == "final":
            self.finals.append(event["text"])
        elif kind == "resumed":
            self.received = event["received_bytes"]
        elif kind == "summary":
            self.summary = {k: v for k, v in event.items() if k not in ("type", "seq")}
        return kind in ("ready", "resumed")
