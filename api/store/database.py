"""The connection to SQLite or PostgreSQL, its schema, and what its failures mean.

Whatever is wrong with the database is `StoreUnavailable`: absent, locked, full, unreachable. The
schema is brought up to date on the way to the first transaction, so that a service may start before
its database does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from api.errors import ConfigurationError, StoreUnavailable

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")

_MIGRATION_LOCK = 0x766F6963  # "voic"; any number will do that no other program locks

_POOL_SIZE, _POOL_OVERFLOW = 5, 5
"""Connections of one worker. A transaction takes milliseconds, so more would only queue up in the
database; PostgreSQL's default of 100 leaves room for ten workers."""


class Database:
    """One engine per process; `transaction` is the only way in."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigurationError: the URL names neither a SQLite file nor a PostgreSQL database.
        """
        self._timeout_s = timeout_s
        self._url = _parse(url)
        self._file = Path(self._url.database or "") if self.is_sqlite else None
        self._engine = self._sqlite_engine(self._file) if self._file else self._postgres_engine()
        self._is_current = False
        self._migration = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All that is done within is kept together, or not at all.

        Raises:
            StoreUnavailable: the database is absent, locked, full or unreachable.
            ConfigurationError: the database belongs to a newer release of this service.
        """
        with self._translated():
            await self.migrate()
            async with self._engine.begin() as connection:
                yield connection

    async def migrate(self) -> None:
        """Bring the schema up to date, once per process; many processes may do so at once.

        Raises:
            StoreUnavailable, ConfigurationError: as `transaction`.
        """
        if self._is_current:
            return
        async with self._migration:
            with self._translated():
                if not self._is_current:
                    await self._migrate()
                    self._is_current = True

    async def close(self) -> None:
        await self._engine.dispose()

    async def _migrate(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
            await self._switch_to_wal()
        async with self._engine.begin() as connection:
            # Either ends with the transaction, and so with the process that holds it.
            if self.is_sqlite:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            await connection.run_sync(_upgrade)

    async def _switch_to_wal(self) -> None:
        """Let readers and the one writer of a SQLite file go on side by side; the file keeps it.

        The switch doesn't wait for locks, whatever the busy timeout says
        (https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode").
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                async with self._engine.connect() as connection:
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    def _postgres_engine(self) -> AsyncEngine:
        return create_async_engine(
            self._url,
            hide_parameters=True,  # transcripts don't belong into logs
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=self._timeout_s,
            pool_pre_ping=True,
            connect_args={"timeout": self._timeout_s, "command_timeout": self._timeout_s},
        )

    def _sqlite_engine(self, file: Path) -> AsyncEngine:
        # mode=rw: a file that disappears is an error, not an empty database.
        url = self._url.set(
            database=f"file:{quote(str(file))}", query={"mode": "rw", "uri": "true"}
        )
        engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=self._timeout_s,
            connect_args={"timeout": self._timeout_s},
        )

        @event.listens_for(engine.sync_engine, "connect")
        def _connected(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA foreign_keys=ON")
            # In WAL mode only FULL survives a power cut (https://sqlite.org/pragma.html).
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.close()
            entry.info["inode"] = file.stat().st_ino

        @event.listens_for(engine.sync_engine, "checkout")
        def _checked_out(
            connection: DBAPIConnection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
        ) -> None:
            # An open file outlives its name: what is written to it then would be lost.
            if not file.exists() or file.stat().st_ino != entry.info["inode"]:
                raise DisconnectionError("The database file was removed or replaced")

        return engine

    def _translated(self) -> _Translated:
        return _Translated(self._timeout_s)


class _Translated:
    """Turns the drivers' exceptions into `StoreUnavailable`; our own mistakes stay as they are."""

    _OURS = (IntegrityError, DataError)
    _THEIRS = (
        DBAPIError,
        DisconnectionError,
        PoolTimeout,
        OSError,
        asyncio.TimeoutError,
        asyncpg.PostgresError,  # while connecting, SQLAlchemy lets asyncpg's own through
        asyncpg.InterfaceError,
    )

    def __init__(self, retry_after_s: float) -> None:
        self._retry_after_s = retry_after_s

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, self._THEIRS) and not isinstance(error, self._OURS):
            cause = getattr(error, "orig", None) or error
            log.warning("store_unavailable", reason=str(cause) or type(cause).__name__)
            raise StoreUnavailable(
                "The database is away, locked or full", retry_after_s=self._retry_after_s
            ) from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("DATABASE_URL is no database URL") from error
    backend = parsed.drivername.split("+")[0]
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        # libpq's name for what asyncpg calls ssl
        query = {"ssl" if k == "sslmode" else k: v for k, v in parsed.query.items()}
        return parsed.set(drivername="postgresql+asyncpg", query=query)
    raise ConfigurationError(
        "DATABASE_URL must be sqlite:///file or postgresql://user:password@host/name"
    )


def _upgrade(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"The database's schema is not one of this release's: {error}"
        ) from error
