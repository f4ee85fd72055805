"""X-Request-Timeout: a caller may wait for less than REQUEST_TIMEOUT, and then nobody works on."""

from __future__ import annotations

import asyncio
import math
import re

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import DeadlineExceeded, InvalidOption
from api.middleware import known_error_content, known_error_response

HEADER = "X-Request-Timeout"
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class RequestDeadline:
    """Cancels a request when its caller's time is up: its calls to Triton end with it."""

    def __init__(self, app: ASGIApp, max_s: float) -> None:
        """Longer timeouts than `max_s`, in seconds, are left to what bounds each analysis."""
        self._app = app
        self._max_s = max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        value = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        if value is None:
            await self._app(scope, receive, send)
            return
        try:
            timeout_s = _parse(value)
        except InvalidOption as error:
            await known_error_response(Request(scope), error)(scope, receive, send)
            return
        if timeout_s >= self._max_s:
            await self._app(scope, receive, send)
        else:
            await self._run(scope, receive, send, timeout_s)

    async def _run(self, scope: Scope, receive: Receive, send: Send, timeout_s: float) -> None:
        kind: str | None = None  # of the answer, once it has begun

        async def send_watched(message: Message) -> None:
            nonlocal kind
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "")
            await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, send_watched))
        try:
            await asyncio.wait({task}, timeout=timeout_s)
            streams = kind is not None and kind.startswith("text/event-stream")
            if task.done() or (kind is not None and not streams):
                await task  # an answer that is ready is worth sending
                return
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        request = Request(scope)
        error = DeadlineExceeded("The request took longer than it may", timeout_s=timeout_s)
        if streams:
            event = orjson.dumps(known_error_content(request, error)[1])
            await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n"})
        else:
            await known_error_response(request, error)(scope, receive, send)


def _parse(value: str) -> float:
    """Seconds.

    Raises:
        InvalidOption: not a positive number.
    """
    seconds = float(value) if _NUMBER.fullmatch(value) else 0.0
    if not 0.0 < seconds < math.inf:
        raise InvalidOption(f"{HEADER} must be a positive number", **{HEADER: "Seconds to wait"})
    return seconds
