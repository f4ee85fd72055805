"""Messages between workers, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from api.errors import NotFound
from api.streaming.neighbours import Neighbours
from api.streaming.peers import Disconnected, Peer


class Client:
    """Says what it was given to say, then hangs up or waits; keeps what it hears."""

    def __init__(self, *says: str | bytes, hangs_up: bool = False) -> None:
        self._says = list(says)
        self._hangs_up = hangs_up
        self.heard: list[dict[str, Any]] = []

    async def receive(self) -> str | bytes:
        if self._says:
            return self._says.pop(0)
        if self._hangs_up:
            raise Disconnected
        await asyncio.sleep(1000)
        raise AssertionError

    async def send(self, event: dict[str, Any]) -> None:
        self.heard.append(event)


async def test_messages_pass_both_ways(tmp_path: Path) -> None:
    """A folder whose path is too long for a Unix socket's address, too."""
    folder = tmp_path / ("long" * 30)
    here, there = Neighbours(folder), Neighbours(folder)
    received: list[str | bytes] = []

    async def serve(peer: Peer, request_id: str) -> int:
        received.extend([request_id, await peer.receive(), await peer.receive()])
        await peer.send({"type": "summary", "text": "ü"})
        return 4409

    client = Client(bytes(300_000))
    async with there.listening(serve), here.listening(serve):
        session_id = f"{there.name}-secret"
        assert here.is_elsewhere(session_id) and not there.is_elsewhere(session_id)
        assert await here.forward(session_id, '{"first": 1}', client, "request-1") == 4409
    assert received == ["request-1", '{"first": 1}', bytes(300_000)]
    assert client.heard == [{"type": "summary", "text": "ü"}]
    assert not here.is_elsewhere(session_id)


async def test_the_neighbour_learns_that_the_client_is_gone(tmp_path: Path) -> None:
    here, there = Neighbours(tmp_path), Neighbours(tmp_path)
    gone = asyncio.Event()

    async def serve(peer: Peer, request_id: str) -> int | None:
        await peer.receive()
        try:
            await peer.receive()
        except Disconnected:
            gone.set()
        return None

    async with there.listening(serve):
        with pytest.raises(Disconnected):
            await here.forward(f"{there.name}-x", "{}", Client(hangs_up=True), "r")
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_neighbour_that_dies_is_told(tmp_path: Path) -> None:
    here, there = Neighbours(tmp_path), Neighbours(tmp_path)

    async def serve(peer: Peer, request_id: str) -> int | None:
        return None  # hangs up without a code, as a killed process does

    async with there.listening(serve):
        with pytest.raises(NotFound):
            await here.forward(f"{there.name}-x", "{}", Client(), "r")


async def test_what_a_killed_worker_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "deadbeef.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    here = Neighbours(tmp_path)
    assert here.is_elsewhere("deadbeef-x")
    with pytest.raises(NotFound):
        await here.forward("deadbeef-x", "{}", Client(), "r")
    assert not left.exists()


@pytest.mark.parametrize("session_id", ["", "-", "../etc-x", "0123abcd-x", "a/b-x", "....-x"])
def test_ids_of_nobody_are_not_looked_up_elsewhere(tmp_path: Path, session_id: str) -> None:
    assert not Neighbours(tmp_path).is_elsewhere(session_id)
