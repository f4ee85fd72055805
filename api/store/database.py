"""The database, whichever it is: its schema, and what its failures mean.

Whatever is wrong with it is `StoreUnavailable`: absent, locked, full, unreachable. The schema is
brought up to date on the way to the first transaction, so that a service may start before its
database does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import asyncpg
import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.errors import ConfigurationError, StoreUnavailable
from api.store.postgres import PostgresBackend
from api.store.sqlite import SqliteBackend

T = TypeVar("T")

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")

_OURS = (IntegrityError, DataError)
"""Mistakes of this program, which stay what they are."""

_THEIRS = (
    DBAPIError,
    DisconnectionError,
    PoolTimeout,
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresError,  # while connecting, SQLAlchemy lets asyncpg's own through
    asyncpg.InterfaceError,
)


class Backend(Protocol):
    """What SQLite and PostgreSQL do each in their own way."""

    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        """Run `work` in a transaction: all that it does is kept together, or not at all."""

    async def migrate(self, upgrade: Callable[[sa.Connection], None]) -> None:
        """Run `upgrade` in a transaction, one process at a time."""

    async def close(self) -> None: ...


class Database:
    """One per process."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigurationError: the URL names neither a SQLite file nor a PostgreSQL database.
        """
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        backend = SqliteBackend if self.is_sqlite else PostgresBackend
        self._backend: Backend = backend(parsed, timeout_s)
        self._timeout_s = timeout_s
        self._is_current = False
        self._migration = asyncio.Lock()

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which only reads, in a transaction; raises as `write` does."""
        await self.migrate()
        with self._translated():
            return await self._backend.run(work, writes=False)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction: all that it does is kept together, or not at all.

        Raises:
            StoreUnavailable: the database is absent, locked, full or unreachable.
            ConfigurationError: the database belongs to a newer release of this service.
        """
        await self.migrate()
        with self._translated():
            return await self._backend.run(work, writes=True)

    async def migrate(self) -> None:
        """Bring the schema up to date, once per process; many processes may do so at once.

        Raises:
            StoreUnavailable, ConfigurationError: as `write`.
        """
        if self._is_current:
            return
        async with self._migration:
            with self._translated():
                if not self._is_current:
                    await self._backend.migrate(_upgrade)
                    self._is_current = True

    async def close(self) -> None:
        await self._backend.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _OURS:
            raise
        except _THEIRS as error:
            cause = getattr(error, "orig", None) or error
            log.warning("store_unavailable", reason=str(cause) or type(cause).__name__)
            raise StoreUnavailable(
                "The database is away, locked or full", retry_after_s=self._timeout_s
            ) from error


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigurationError("DATABASE_URL is no database URL") from error
    backend = parsed.drivername.split("+")[0]
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
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
