"""Sends requests as a load says, and notes when each was due, sent and answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.load.scenarios import Load, Open


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent, and how much audio it holds."""

    path: str
    content: bytes
    headers: dict[str, str]
    audio_s: float


@dataclass(frozen=True)
class Reply:
    """An answer: its body where that is a JSON object, else empty; `error` is None for 2xx."""

    body: dict[str, Any]
    error: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of a request; times in seconds from the run's start.

    Attributes:
        due_s: when it should have been sent.
        sent_s, done_s: when it was sent, and answered in full.
    """

    due_s: float
    sent_s: float
    done_s: float
    audio_s: float
    reply: Reply

    @property
    def latency_s(self) -> float:
        """From when it was due, not from when it could be sent.

        A generator that waits for slow answers sends less while the service stalls, and where it
        counts from sending, what callers would have waited is never seen: "coordinated omission"
        (Gil Tene, "How NOT to Measure Latency", 2013; wrk2 counts as we do). In a closed load a
        request is due when it is sent.
        """
        return self.done_s - self.due_s


Send = Callable[[Request], Awaitable[Reply]]


async def run_load(load: Load, requests: Sequence[Request], send: Send) -> list[Outcome]:
    """Sends every request once, in order; returns when all are answered."""
    started = time.perf_counter()

    async def one(request: Request, due_s: float | None) -> Outcome:
        sent_s = time.perf_counter() - started
        reply = await send(request)
        done_s = time.perf_counter() - started
        return Outcome(sent_s if due_s is None else due_s, sent_s, done_s, request.audio_s, reply)

    if isinstance(load, Open):
        tasks = []
        for number, request in enumerate(requests):
            due_s = number / load.rate_per_s
            await asyncio.sleep(max(0.0, started + due_s - time.perf_counter()))
            tasks.append(asyncio.create_task(one(request, due_s)))
        return list(await asyncio.gather(*tasks))

    waiting = iter(requests)
    outcomes: list[Outcome] = []

    async def client() -> None:
        for request in waiting:
            outcomes.append(await one(request, None))

    await asyncio.gather(*(client() for _ in range(load.clients)))
    return outcomes


def sender(client: httpx.AsyncClient) -> Send:
    """Sends to a server; nothing is sent twice."""

    async def send(request: Request) -> Reply:
        try:
            response = await client.post(
                request.path, content=request.content, headers=request.headers
            )
        except httpx.HTTPError as error:
            return Reply({}, type(error).__name__)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        body = response.json() if is_json else {}
        if response.is_success:
            return Reply(body, None)
        return Reply(body, f"{response.status_code} {body.get('error', response.reason_phrase)}")

    return send
