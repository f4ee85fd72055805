"""WS /audio/stream: live audio in, partial and final transcripts and a summary out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from api.endpoints.context import app_state
from api.streaming.messages import SUBPROTOCOL
from api.streaming.peers import Disconnected

router = APIRouter(prefix="/audio", tags=["audio"])


@router.websocket("/stream")
async def stream(websocket: WebSocket) -> None:
    offered = SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(SUBPROTOCOL if offered else None)
    peer = WebSocketPeer(websocket)
    request_id: str = websocket.scope["state"]["request_id"]
    code = await app_state(websocket).streams.serve(peer, request_id)
    if code is not None:
        await peer.close(code)


class WebSocketPeer:
    """A WebSocket as `api.streaming.peers.Peer`."""

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
def _disconnects() -> Iterator[None]:
    try:
        yield
    except (WebSocketDisconnect, RuntimeError) as error:
        # Starlette raises RuntimeError for what is sent once a disconnect was received.
        raise Disconnected from error
