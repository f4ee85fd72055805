"""A stream lives in one worker process, but a client that comes back may reach any of them.

So each worker listens on a socket in a folder that all workers of the service share, and a session
id begins with the worker's own name. A worker that is asked to resume a neighbour's stream passes
the messages on, both ways, and knows nothing of what they mean.

Frames on the socket: one byte that tells the kind, four for the length (big endian), the content.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from api.errors import NotFound
from api.streaming.peers import Disconnected, Peer, first_of

log = structlog.get_logger(__name__)

TEXT, BINARY, CODE = b"t", b"b", b"c"

Serve = Callable[[Peer, str], Awaitable["int | None"]]
"""Serves a peer under a request id until its end; gives the code to close the connection with."""


class Neighbours:
    """This worker's socket, and the way to the others'."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that the workers share; it is made where it is absent."""
        self.name = secrets.token_hex(4)
        self._path = folder

    @contextlib.asynccontextmanager
    async def listening(self, serve: Serve) -> AsyncIterator[None]:
        """Serve what the neighbours pass on, until the block ends."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._path.chmod(0o700)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = _NeighboursClient(reader, writer)
            with contextlib.suppress(Disconnected, ConnectionError):
                request_id = str(await peer.receive())
                code = await serve(peer, request_id)
                if code is not None:
                    await _write(writer, CODE, str(code).encode())
            writer.close()

        with _reachable(self._path, self.name) as address:
            server = await asyncio.start_unix_server(accept, address)
            try:
                yield
            finally:
                server.close()
                (self._path / _socket(self.name)).unlink(missing_ok=True)

    def is_elsewhere(self, session_id: str) -> bool:
        """Whether a session, if there is such a one, lives in another worker."""
        name, _, _ = session_id.partition("-")
        return name != self.name and name.isalnum() and (self._path / _socket(name)).exists()

    async def forward(self, session_id: str, first: str, peer: Peer, request_id: str) -> int:
        """Pass a client's messages on to its session's worker, from the `first` on.

        Returns:
            The code with which that worker closes the connection.

        Raises:
            Disconnected: the client is gone.
            NotFound: the worker is.
        """
        name, _, _ = session_id.partition("-")
        gone = NotFound("The process that held this stream is gone", session_id="Begin a new one")
        try:
            with _reachable(self._path, name) as address:
                reader, writer = await asyncio.open_unix_connection(address)
        except OSError as error:
            (self._path / _socket(name)).unlink(missing_ok=True)
            raise gone from error
        codes: list[int] = []
        try:
            await _write(writer, TEXT, request_id.encode())
            await _write(writer, TEXT, first.encode())
            await first_of(_pass_up(peer, writer), _pass_down(reader, peer, codes))
        except ConnectionError as error:
            raise gone from error
        finally:
            writer.close()
        if not codes:
            raise gone
        return codes[0]


class _NeighboursClient:
    """A client that is connected to another worker, as `api.streaming.peers.Peer`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> str | bytes:
        frame = await _read(self._reader)
        if frame is None:
            raise Disconnected
        kind, content = frame
        return content if kind == BINARY else content.decode()

    async def send(self, event: dict[str, Any]) -> None:
        try:
            await _write(self._writer, TEXT, orjson.dumps(event))
        except ConnectionError as error:
            raise Disconnected from error


async def _pass_up(peer: Peer, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await peer.receive()
        if isinstance(message, bytes):
            await _write(writer, BINARY, message)
        else:
            await _write(writer, TEXT, message.encode())


async def _pass_down(reader: asyncio.StreamReader, peer: Peer, codes: list[int]) -> None:
    while (frame := await _read(reader)) is not None:
        kind, content = frame
        if kind == CODE:
            codes.append(int(content))
            return
        await peer.send(orjson.loads(content))


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """The next frame; None when the other side is gone."""
    try:
        kind = await reader.readexactly(1)
        length = int.from_bytes(await reader.readexactly(4), "big")
        return kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def _write(writer: asyncio.StreamWriter, kind: bytes, content: bytes) -> None:
    writer.write(kind + len(content).to_bytes(4, "big") + content)
    await writer.drain()


def _socket(name: str) -> str:
    return f"{name}.sock"


@contextlib.contextmanager
def _reachable(folder: Path, name: str) -> Any:
    """An address of a socket however long the folder's path is: Unix allows 107 bytes of it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{_socket(name)}"
    finally:
        os.close(handle)
