"""X-Request-Timeout around a small app; tests/integration/test_access.py has Triton behind it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from api.deadline import RequestDeadline
from api.metrics import Metrics
from api.middleware import RequestContext

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Slow:
    """Takes `before_s` to begin its answer, and `after_s` more to end it."""

    def __init__(self, before_s: float, after_s: float = 0.0, kind: bytes = b"text/plain") -> None:
        self._before_s, self._after_s, self._kind = before_s, after_s, kind
        self.outcome = "not begun"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.outcome = "cancelled"
        await asyncio.sleep(self._before_s)
        headers = [(b"content-type", self._kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(self._after_s)
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})
        self.outcome = "finished"


async def ask(app: ASGIApp, timeout: str | None, path: str = "/audio/analyze") -> httpx.Response:
    figures = Metrics()
    inner = RequestContext(RequestDeadline(app, max_s=0.5), figures)
    state = types.SimpleNamespace(state=types.SimpleNamespace(metrics=figures))

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = state
        await inner(scope, receive, send)

    transport = httpx.ASGITransport(app=outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        headers = {} if timeout is None else {"X-Request-Timeout": timeout}
        return await http.post(path, headers=headers)


@pytest.mark.parametrize("timeout", ["0", "0.0", "-1", "", "soon", "nan", "inf", "1e999", "1_0"])
async def test_nonsense_is_422(timeout: str) -> None:
    app = Slow(0)
    answer = await ask(app, timeout)
    assert answer.status_code == 422 and "X-Request-Timeout" in answer.json()["details"]
    assert app.outcome == "not begun"


async def test_past_it_the_work_is_cancelled() -> None:
    app = Slow(10)
    answer = await ask(app, "0.05")
    assert answer.status_code == 504 and answer.json()["error"] == "DeadlineExceeded"
    assert answer.json()["details"] == {"timeout_s": 0.05}
    assert app.outcome == "cancelled"
    answer = await ask(Slow(10), "0.05", "/v1/audio/transcriptions")
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"


@pytest.mark.parametrize("timeout", [None, "0.4", "100", "1e3"])
async def test_within_it_nothing_changes(timeout: str | None) -> None:
    answer = await ask(Slow(0.02), timeout)
    assert answer.status_code == 200 and answer.text == "data: 1\n\ndata: 2\n\n"


async def test_an_answer_that_is_under_way_is_finished() -> None:
    app = Slow(0, 0.2)
    assert (await ask(app, "0.05")).text == "data: 1\n\ndata: 2\n\n"
    assert app.outcome == "finished"


async def test_an_event_stream_ends_with_the_error() -> None:
    app = Slow(0, 10, b"text/event-stream; charset=utf-8")
    first, last = (await ask(app, "0.05")).text.strip().split("\n\n")
    assert first == "data: 1"
    error: dict[str, Any] = orjson.loads(last.removeprefix("data: "))
    assert error["error"] == "DeadlineExceeded"
    assert app.outcome == "cancelled"


async def test_what_the_app_itself_did_not_await_in_time_is_no_504() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.TimeoutError

    assert (await ask(failing, "0.3")).status_code == 500


async def test_a_caller_that_is_cancelled_takes_its_work_along() -> None:
    app = Slow(10)
    task = asyncio.create_task(ask(app, "0.4"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.outcome == "cancelled"
