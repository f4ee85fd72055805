"""PostgreSQL, shared by all workers on all machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

T = TypeVar("T")

_MIGRATION_LOCK = 0x766F6963  # "voic"; any number will do that no other program locks

_POOL_SIZE, _POOL_OVERFLOW = 5, 5
"""Connections of one worker. A transaction takes milliseconds, so more would only queue up in the
database; PostgreSQL's default of 100 leaves room for ten workers."""


class PostgresBackend:
    """Transactions on the event loop, each on a connection of its own."""

    def __init__(self, url: sa.URL, timeout_s: float) -> None:
        self._engine = create_async_engine(
            url,
            hide_parameters=True,  # transcripts don't belong into logs
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
            connect_args={"timeout": timeout_s, "command_timeout": timeout_s},
        )

    async def run(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def migrate(self, upgrade: Callable[[sa.Connection], None]) -> None:
        async with self._engine.begin() as connection:
            # It ends with the transaction, and so with the process that holds it.
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            await connection.run_sync(upgrade)

    async def close(self) -> None:
        await self._engine.dispose()
