"""SQLite: a file on this machine, shared by all workers.

Each transaction runs from begin to commit in a thread of its own. On the event loop it would hold
the file's one write lock while it waits for its turn on a busy loop, statement by statement: under
256 simultaneous requests others then waited for the lock for more than five seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

T = TypeVar("T")

_READERS = 4


class SqliteBackend:
    """One writer per process, in order of arrival; readers beside it (WAL)."""

    def __init__(self, url: sa.URL, timeout_s: float) -> None:
        self._file = Path(url.database or "")
        self._timeout_s = timeout_s
        self._engine = self._open(url)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")

    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        def transact() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        threads = self._writer if writes else self._readers
        return await asyncio.get_running_loop().run_in_executor(threads, transact)

    async def migrate(self, upgrade: Callable[[sa.Connection], None]) -> None:
        def transact() -> None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
            self._switch_to_wal()
            with self._engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                upgrade(connection)

        await asyncio.get_running_loop().run_in_executor(self._writer, transact)

    async def close(self) -> None:
        """Finish what was begun, then close the file."""
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()

    def _switch_to_wal(self) -> None:
        """Let readers and the writer go on side by side; the file remembers it.

        The switch doesn't wait for locks, whatever the busy timeout says
        (https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode").
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _open(self, url: sa.URL) -> sa.Engine:
        # mode=rw: a file that disappears is an error, not an empty database.
        uri = f"file:{quote(str(self._file))}"
        engine = sa.create_engine(
            url.set(database=uri, query={"mode": "rw", "uri": "true"}),
            hide_parameters=True,  # transcripts don't belong into logs
            pool_size=1 + _READERS,
            max_overflow=0,
            connect_args={"timeout": self._timeout_s, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _connected(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA foreign_keys=ON")
            # In WAL mode only FULL survives a power cut (https://sqlite.org/pragma.html).
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.close()
            entry.info["inode"] = self._file.stat().st_ino

        @event.listens_for(engine, "checkout")
        def _checked_out(
            connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
        ) -> None:
            # An open file outlives its name: what is written to it then would be lost.
            if not self._file.exists() or self._file.stat().st_ino != entry.info["inode"]:
                raise DisconnectionError("The database file was removed or replaced")

        return engine
