"""WS /audio/stream: live audio in, partial and final transcripts and a summary out."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from api.endpoints.context import app_state
from api.errors import VoiceAnalyticsError
from api.middleware import close_code, kind
from api.streaming.connection import Connection, Disconnected
from api.streaming.messages import error_event

router = APIRouter(prefix="/audio", tags=["audio"])

log = structlog.get_logger(__name__)

NORMAL, INTERNAL_ERROR = 1000, 1011


class WebSocketPeer:
    """A WebSocket as `api.streaming.connection.Peer`."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        data: bytes | None = message.get("bytes")
        return data if data is not None else str(message["text"])

    async def send(self, event: dict[str, Any]) -> None:
        with _disconnects():
            await self._websocket.send_text(orjson.dumps(event).decode())

    async def close(self, code: int) -> None:
        with contextlib.suppress(Disconnected), _disconnects():
            await self._websocket.close(code)


@contextlib.contextmanager
def _disconnects() -> Any:
    try:
        yield
    except (WebSocketDisconnect, RuntimeError) as error:
        # Starlette raises RuntimeError for what is sent once a disconnect was received.
        raise Disconnected from error


@router.websocket("/stream")
async def stream(websocket: WebSocket) -> None:
    state = app_state(websocket)
    await websocket.accept()
    peer = WebSocketPeer(websocket)
    connection = Connection(
        peer, state.sessions, state.metrics, idle_s=state.settings.stream_idle_seconds
    )
    code: int | None = NORMAL
    try:
        await connection.serve()
    except Disconnected:
        code = None
    except VoiceAnalyticsError as error:
        code = close_code(error)
        state.metrics.errors.labels(kind(error)).inc()
        request_id = websocket.scope["state"]["request_id"]
        with contextlib.suppress(Disconnected):
            await peer.send(error_event(kind(error), error.message, error.details, request_id))
    except Exception:
        code = INTERNAL_ERROR
        log.exception("unexpected_error")
    log.info("stream_connection", code=code)
    if code is not None:
        await peer.close(code)
