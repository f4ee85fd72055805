"""Who is let in, before a byte of a body is read: origin, key, and the caller's own bounds.

Plain ASGI over HTTP and WebSocket alike; docs/security.md says what it holds off.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import orjson
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import Forbidden, VoiceAnalyticsError
from api.keys import KeyRing
from api.limits import CallerLimits
from api.metrics import Metrics
from api.middleware import close_code, kind, known_error_response
from api.streaming.messages import SUBPROTOCOL, error_event

KEY_SUBPROTOCOL = "api-key."
"""A browser's WebSocket can't send headers; it offers this with its key behind it."""

OPEN = frozenset(
    "/health/live /health/ready / /docs /docs/oauth2-redirect /redoc /openapi.json".split()
)
"""Asked without a key: orchestrators' probes, and pages, which hold nothing but this code's own
words and let their readers enter a key."""

_OPEN_BELOW = ("/static-offline-docs/", "/static/")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Access:
    """Lets a request in under its caller's name, or answers it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        limits: CallerLimits,
        origins: frozenset[str],
        any_host: bool,
        metrics: Metrics,
    ) -> None:
        """
        Args:
            keys: without any, everybody is let in.
            origins: of web pages, besides our own, that may call; "*" = all.
            any_host: whether callers without a key may use whatever name for this host.
            metrics: counts the WebSockets that are refused.
        """
        self._app = app
        self._keys = keys
        self._limits = limits
        self._origins = origins
        self._any_host = any_host or bool(keys)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        async with AsyncExitStack() as stack:
            try:
                caller = self._caller(HTTPConnection(scope))
                structlog.contextvars.bind_contextvars(caller=caller)
                await stack.enter_async_context(self._limits.admitted(caller))
            except VoiceAnalyticsError as error:
                await self._refuse(scope, receive, send, error)
                return
            await self._app(scope, receive, send)

    def _caller(self, connection: HTTPConnection) -> str:
        """The caller's name.

        Raises:
            AuthenticationError: no key, or an unknown one.
            Forbidden: see `_check_host` and `_check_origin`.
        """
        if not self._any_host:
            _check_host(connection.headers)
        if connection.scope.get("method") not in _SAFE_METHODS:
            self._check_origin(connection.headers)
        return self._keys.name_of(_secret(connection))

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """Browsers let any page post forms here and open WebSockets here, and say who it was.

        Raises:
            Forbidden: a page of an origin that isn't let in.
        """
        origin = headers.get("origin", "").lower()
        if not origin or "*" in self._origins or origin in self._origins:
            return
        if urlsplit(origin).netloc != headers.get("host", "").lower():
            raise Forbidden("Pages of this origin may not call; CORS_ORIGINS names who may")

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, error: VoiceAnalyticsError
    ) -> None:
        if scope["type"] == "http":
            await known_error_response(Request(scope), error)(scope, receive, send)
            return
        # A page sees why only if it gets so far as to be connected.
        self._metrics.errors.labels(kind(error)).inc()
        request_id = scope["state"]["request_id"]
        event = error_event(kind(error), error.message, error.details, request_id)
        offered = SUBPROTOCOL in scope["subprotocols"]
        await receive()
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None})
        await send({"type": "websocket.send", "text": orjson.dumps(event).decode()})
        await send({"type": "websocket.close", "code": close_code(error)})


def _is_open(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    return path in OPEN or path.startswith(_OPEN_BELOW)


def _secret(connection: HTTPConnection) -> str | None:
    """The key that came along, from the first place that has one."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if "x-api-key" in connection.headers:
        return connection.headers["x-api-key"]
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(KEY_SUBPROTOCOL):
            return str(offered.removeprefix(KEY_SUBPROTOCOL))
    return None


def _check_host(headers: Mapping[str, str]) -> None:
    """Without keys, who can reach the port is let in, and so would be any web page whose name's
    address is switched to ours while it is open (DNS rebinding; Ollama's CVE-2024-28224). Its
    requests still carry that name; an address, or localhost, can't be switched.

    Raises:
        Forbidden: the host is called by another name.
    """
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost" and not host.endswith(".localhost"):
            raise Forbidden(
                "Without API_KEYS only localhost and addresses are served; ALLOW_ANONYMOUS=true "
                "serves every name"
            ) from None
