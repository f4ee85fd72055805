"""Migrations of SQLite and PostgreSQL: at once, there and back."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from api.errors import ConfigurationError
from api.store import tables
from api.store.analyses import AnalysisStore
from api.store.database import MIGRATIONS, Database
from tests.analyses import analysis


def _start_many(url: str, ready: Callable[[], None]) -> None:
    ready()
    asyncio.run(_start_one(url))


async def _start_one(url: str) -> None:
    database = Database(url, timeout_s=30)
    await database.migrate()
    await AnalysisStore(database).save(analysis("shared"))
    await database.close()


def test_many_workers_may_start_at_once(url: str) -> None:
    """Unlocked, all would create the same tables, and all but one would fail."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(4)
    workers = [spawn.Process(target=_start_many, args=(url, barrier.wait)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4


async def test_the_migrations_make_the_tables_that_the_code_expects(database: Database) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), tables.metadata))

    assert await database.read(differences) == []


async def test_the_migrations_can_be_taken_back(database: Database) -> None:
    def down_and_up(connection: sa.Connection) -> tuple[list[str], list[str]]:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        before = sa.inspect(connection).get_table_names()
        command.downgrade(config, "base")
        assert set(sa.inspect(connection).get_table_names()) == {"alembic_version"}
        command.upgrade(config, "head")
        return before, sa.inspect(connection).get_table_names()

    before, after = await database.write(down_and_up)
    assert set(before) == set(after) > {"analyses", "segments", "speakers"}


async def test_the_database_of_a_newer_release_is_left_alone(url: str) -> None:
    first = Database(url, timeout_s=5)
    await first.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num='9999'"
        )
    )
    await first.close()
    second = Database(url, timeout_s=5)
    with pytest.raises(ConfigurationError, match="9999"):
        await second.migrate()
    await second.close()
