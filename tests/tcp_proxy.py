"""A wire that can be cut: a TCP proxy in front of a service."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class TcpProxy:
    """Passes bytes both ways until it is told to do harm."""

    def __init__(self, url: str) -> None:
        self.lead_to(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._cut_after: int | None = None
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def lead_to(self, url: str) -> None:
        """Connect to another service from now on."""
        parts = urlsplit(url)
        self._upstream = (str(parts.hostname), int(parts.port or 80))

    def cut(self) -> None:
        """Break every connection at once, without a goodbye."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def cut_answer_after(self, size_bytes: int) -> None:
        """Break the next answer behind so many of its bytes; 0 = before its first."""
        self._cut_after = size_bytes

    def freeze(self) -> None:
        """Pass nothing on, but leave the connections open, as a dead router does."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on for new connections; those from before stay dead."""
        with self._lock:
            self._open.clear()
        self._flows = threading.Event()
        self._flows.set()

    def close(self) -> None:
        # Closing alone wouldn't wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(self._upstream)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for pair in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass, args=(*pair, self._flows), daemon=True).start()

    def _pass(
        self, source: socket.socket, sink: socket.socket, is_answer: bool, flows: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                flows.wait()
                if is_answer and self._cut_after is not None:
                    data, self._cut_after = data[: self._cut_after], None
                    sink.sendall(data)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}
        source.close()


@contextlib.contextmanager
def proxy_to(url: str) -> Iterator[TcpProxy]:
    """A proxy in front of a URL."""
    proxy = TcpProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
