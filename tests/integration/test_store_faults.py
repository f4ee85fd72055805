"""The store when its database is locked, full, damaged, away or missing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from api.errors import StoreUnavailable
from api.settings import PROJECT_ROOT
from api.store.analyses import AnalysisStore
from api.store.database import Database
from tests.analyses import analysis
from tests.integration.databases import PostgresServer, ids, rows, run_postgres


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Somebody else writes, and takes long."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
            other.execute("DELETE FROM speakers")
            yield
            other.rollback()
    else:
        connection = await asyncpg.connect(url, ssl=False)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE analyses IN EXCLUSIVE MODE")
        yield
        await transaction.rollback()
        await connection.close()


async def test_a_locked_database_can_be_read_and_answers_writers_in_time(url: str) -> None:
    database = Database(url, timeout_s=0.5)
    store = AnalysisStore(database)
    await store.save(analysis("a1"))
    async with locked(url):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.save(analysis("a2", texts=["one", "two"]))
        assert time.monotonic() - started < 5
        assert await ids(store) == ["a1"]
    await store.save(analysis("a3"))
    assert await ids(store) == ["a3", "a1"]
    assert await rows(database) == {"analyses": 2, "segments": 2, "speakers": 2}
    await database.close()


async def test_a_sqlite_file_that_disappears_and_returns(tmp_path: Path) -> None:
    """An unlinked file can still be written to, and all of it would be lost."""
    file = tmp_path / "a.db"
    database = Database(f"sqlite:///{file}", timeout_s=1)
    store = AnalysisStore(database)
    await store.save(analysis("a1"))
    file.rename(tmp_path / "moved.db")
    with pytest.raises(StoreUnavailable):
        await store.save(analysis("a2"))
    with pytest.raises(StoreUnavailable):
        await store.get("a1")
    assert not file.exists()
    (tmp_path / "moved.db").rename(file)
    await store.save(analysis("a3"))
    assert set(await ids(store)) == {"a1", "a3"}
    await database.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"something else entirely" * 100)
    database = Database(f"sqlite:///{tmp_path}/a.db", timeout_s=0.2)
    with pytest.raises(StoreUnavailable):
        await database.migrate()
    await database.close()


_FILL = """
import asyncio, resource, sys
from api.errors import StoreUnavailable
from api.store.analyses import AnalysisFilter, AnalysisStore
from api.store.database import Database
from tests.analyses import analysis

async def fill(store):
    await store.save(analysis("first"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    answered = ["first"]
    try:
        for number in range(1000):
            await store.save(analysis(f"a{number}", texts=["some words"] * 50))
            answered.append(f"a{number}")
    except StoreUnavailable:
        listed = [item.id for item in (await store.list(AnalysisFilter(), limit=2000)).items]
        assert sorted(listed) == sorted(answered), (listed, answered)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        await store.save(analysis("after"))
        print(len(answered))

async def main():
    database = Database(sys.argv[1], timeout_s=2)
    try:
        await fill(AnalysisStore(database))
    finally:
        await database.close()

asyncio.run(main())
"""


def test_a_full_disk_under_sqlite(tmp_path: Path) -> None:
    """The process may write no file beyond 1 MB: its system calls fail as on a full disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    file = tmp_path / "a.db"
    done = subprocess.run(
        [sys.executable, "-c", _FILL, f"sqlite:///{file}"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answered = int(done.stdout.splitlines()[-1])
    assert answered > 2
    with sqlite3.connect(file) as connection:
        count = "SELECT count(*) FROM {}"
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute(count.format("analyses")).fetchone() == (answered + 1,)
        assert connection.execute(count.format("segments")).fetchone() == (answered * 50 - 48,)
    connection.close()


async def test_a_full_disk_under_postgres() -> None:
    with run_postgres(max_file_bytes=20 * 2**20) as server:
        database = Database(server.new_database(), timeout_s=10)
        store = AnalysisStore(database)
        large = analysis("large", texts=[f"{n:x}" * 10 for n in range(400_000)])
        with pytest.raises(StoreUnavailable):
            await store.save(large)
        await store.save(analysis("small"))
        assert await ids(store) == ["small"]
        assert await rows(database) == {"analyses": 1, "segments": 1, "speakers": 1}
        await database.close()


async def test_postgres_away_killed_and_back() -> None:
    with run_postgres() as server:
        url = server.new_database()
        database = Database(url, timeout_s=2)
        store = AnalysisStore(database)
        await store.save(analysis("a1"))
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.save(analysis("a2"))
        late = Database(url, timeout_s=2)
        with pytest.raises(StoreUnavailable):
            await late.migrate()
        server.start()
        for one in (store, AnalysisStore(late)):
            assert await _until_back(one) == ["a1"]
        await database.close()
        await late.close()


async def _until_back(store: AnalysisStore) -> list[str]:
    for _ in range(100):
        try:
            return await ids(store)
        except StoreUnavailable:  # it replays its log first
            await asyncio.sleep(0.1)
    raise AssertionError("PostgreSQL is back, the store is not")


async def test_a_postgres_database_that_does_not_exist(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    database = Database(url + "_gone", timeout_s=2)
    with pytest.raises(StoreUnavailable):
        await database.migrate()
    await database.close()
