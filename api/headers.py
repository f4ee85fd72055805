"""What every answer tells the browser that gets it: trust nothing that isn't said here."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""For what isn't a page: if a browser shows it, nothing in it runs or loads."""

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'{inline}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'{sockets}; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""For our own pages: modules from here, recorded audio (blob:), WebSockets to here."""

_INLINE = frozenset({"/docs", "/redoc"})
"""FastAPI's two pages start their scripts inline, and hold nothing that a caller sent."""

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
    "cross-origin-opener-policy": "same-origin",
}


class SecurityHeaders:
    """Adds them to each answer; what an endpoint says of itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", _policy(scope, headers))
                # Files of ours have a tag, by which a browser asks whether its copy is the newest.
                cached = "no-cache" if "etag" in headers else "no-store"
                headers.setdefault("cache-control", cached)
            await send(message)

        await self._app(scope, receive, send_guarded)


def _policy(scope: Scope, headers: MutableHeaders) -> str:
    if not headers.get("content-type", "").startswith("text/html"):
        return _DATA_POLICY
    inline = " 'unsafe-inline'" if scope["path"] in _INLINE else ""
    return _PAGE_POLICY.format(inline=inline, sockets=_sockets(scope))


def _sockets(scope: Scope) -> str:
    """Our own WebSockets by name: Safari before 15.4 doesn't count them to 'self'."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    if not host or any(c in host for c in " ;,'\"\r\n"):
        return ""
    return f" ws://{host} wss://{host}"
