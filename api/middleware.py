"""What surrounds every request: id, log line, metrics, upload limit, and the error shape.

Plain ASGI, so that a client's disconnect reaches the endpoint and nothing is buffered.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors, tracing
from api.metrics import Metrics
from api.openai import errors as openai
from api.turns import Turns

log = structlog.get_logger(__name__)

STATUS: dict[type[errors.VoiceAnalyticsError], int] = {
    errors.InvalidAudio: 400,
    errors.UnsupportedAudioFormat: 415,
    errors.AudioTooLong: 413,
    errors.UploadTooLarge: 413,
    errors.InvalidOption: 422,
    errors.ValidationError: 422,
    errors.AuthenticationError: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.UnusableRelease: 409,
    errors.Overloaded: 429,
    errors.ModelUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.IdleTimeout: 408,
    errors.InferenceError: 502,
    errors.VoiceAnalyticsError: 500,
}
"""The one map from the error tree to HTTP; the nearest ancestor counts."""

CLOSE_CODES: dict[type[errors.VoiceAnalyticsError], int] = {
    errors.InvalidAudio: 1003,
    errors.UnsupportedAudioFormat: 1003,
    errors.AudioTooLong: 1009,
    errors.UploadTooLarge: 1009,
    errors.ValidationError: 1008,
    errors.AuthenticationError: 4401,
    errors.Forbidden: 4403,
    errors.NotFound: 4404,
    errors.IdleTimeout: 4408,
    errors.Conflict: 4409,
    errors.Overloaded: 1013,
    errors.ModelUnavailable: 1013,
    errors.StoreUnavailable: 1013,
    errors.DeadlineExceeded: 4504,
    errors.VoiceAnalyticsError: 1011,
}
"""The one map from the error tree to WebSocket close codes (RFC 6455, section 7.4); where that has
no fitting one, 4000 + the HTTP status. The nearest ancestor counts."""

CLIENT_GONE = 499
"""nginx's code for a caller that hung up; only the log sees it."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_HTTP_KINDS = {404: "NotFound", 405: "MethodNotAllowed", 413: "ValidationError"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ClientGone(Exception):
    """The caller hung up; there is nobody to answer."""


def kind(error: errors.VoiceAnalyticsError) -> str:
    """The name on the wire; all that is wrong with the input goes by ValidationError."""
    if isinstance(error, errors.ValidationError):
        return "ValidationError"
    return type(error).__name__


def status_code(error: errors.VoiceAnalyticsError) -> int:
    return next(STATUS[ancestor] for ancestor in type(error).__mro__ if ancestor in STATUS)


def close_code(error: errors.VoiceAnalyticsError) -> int:
    return next(CLOSE_CODES[kind] for kind in type(error).__mro__ if kind in CLOSE_CODES)


def error_response(
    request: Request,
    status: int,
    kind: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer in the one error shape; below /v1/ in OpenAI's."""
    status, content = _error_content(request, status, kind, message, details or {})
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))


def _error_content(
    request: Request, status: int, kind: str, message: str, details: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    request.app.state.metrics.errors.labels(kind).inc()
    if request.url.path.startswith(openai.PREFIX):
        return openai.shape(status, message, details)
    return status, {
        "error": kind,
        "message": message,
        "details": dict(details),
        "request_id": request.scope["state"]["request_id"],
    }


def known_error_response(request: Request, error: errors.VoiceAnalyticsError) -> Response:
    """The answer to an error of our own tree."""
    headers = {}
    if isinstance(error, errors.Overloaded | errors.ModelUnavailable | errors.StoreUnavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, errors.AuthenticationError):
        headers["WWW-Authenticate"] = 'Bearer realm="voice-analytics"'
    status, content = known_error_content(request, error)
    return JSONResponse(content, status_code=status, headers=headers)


def known_error_content(
    request: Request, error: errors.VoiceAnalyticsError
) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to an error of our own tree; counted and logged by this."""
    status = status_code(error)
    if status >= 500:
        log.warning("request_failed", kind=kind(error), reason=error.message, **error.details)
    return _error_content(request, status, kind(error), error.message, error.details)


def install_error_handlers(app: FastAPI) -> None:
    """Give every error that can leave an endpoint its status and the one shape."""

    @app.exception_handler(errors.VoiceAnalyticsError)
    async def _known(request: Request, error: errors.VoiceAnalyticsError) -> Response:
        return known_error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        details = {
            ".".join(str(part) for part in problem["loc"][1:]) or "body": problem["msg"]
            for problem in error.errors()
        }
        return error_response(
            request, 422, "ValidationError", "The request has invalid fields", details
        )

    @app.exception_handler(OSError)
    async def _disk(request: Request, error: OSError) -> Response:
        if error.errno not in _DISK_FULL:
            raise error
        return known_error_response(request, errors.StoreUnavailable("The disk is full"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        # For whatever goes wrong while a form is read, its place on disk included, FastAPI has 400.
        if isinstance(error.__cause__, OSError):
            return await _disk(request, error.__cause__)
        name = _HTTP_KINDS.get(error.status_code, "ValidationError")
        return error_response(
            request, error.status_code, name, str(error.detail), headers=error.headers
        )

    @app.exception_handler(ClientGone)
    async def _gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=CLIENT_GONE)


class RequestContext:
    """Names, times, logs and counts each request; turns what nobody expected into a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        tracing.note("voice_analytics.request_id", request_id)
        if scope["type"] == "websocket":  # api.endpoints.stream logs and counts it
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            log.exception("unexpected_error")
            request = Request(scope)
            response = error_response(request, 500, "InternalError", "Something went wrong here")
            await response(scope, receive, send_named)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, never the path: a label value per id would grow without bound.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.answered(route, scope["method"], status, seconds)
        log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round(seconds * 1000, 1),
        )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value.decode("latin-1")):
            return str(value.decode("latin-1"))
    return uuid4().hex


class UploadLimit:
    """Refuses a body that is too large while it arrives, before it fills memory or disk.

    Bodies that arrive together take turns, chunk by chunk.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, of_path: Mapping[str, int]) -> None:
        """`of_path`: limits of routes that take more or less than the others' `max_bytes`."""
        self._app = app
        self._max_bytes = max_bytes
        self._of_path = of_path
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0
        max_bytes = self._of_path.get(scope["path"], self._max_bytes)

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            if message.get("more_body"):
                await self._turns.take()
            received += len(message.get("body", b""))
            if received > max_bytes:
                # An HTTPException passes FastAPI's body parser unchanged; no other type does.
                raise HTTPException(413, f"The upload has more than {max_bytes} bytes")
            return message

        await self._app(scope, limited, send)
