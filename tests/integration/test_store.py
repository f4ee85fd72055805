"""The store over a real SQLite file and a real PostgreSQL: the same tests on both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from api.errors import ConfigurationError, InvalidOption, NotFound, StoreUnavailable
from api.schemas import to_response
from api.settings import PROJECT_ROOT
from api.store import tables
from api.store.analyses import AnalysisFilter, AnalysisStore, Page
from api.store.database import MIGRATIONS, Database
from api.store.retention import keep_for
from tests.analyses import analysis
from tests.integration.databases import PostgresServer, run_postgres

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
EVERYTHING = AnalysisFilter()
DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/analyses.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, timeout_s=5)
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> AnalysisStore:
    return AnalysisStore(database)


async def ids(store: AnalysisStore, wanted: AnalysisFilter = EVERYTHING) -> list[str]:
    return [item.id for item in (await store.list(wanted, limit=100)).items]


async def rows(database: Database) -> dict[str, int]:
    """How many rows each table holds."""

    def count(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.analyses, tables.segments, tables.speakers)
        }

    return await database.read(count)


async def test_what_was_saved_comes_back_whole(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=["Größe: 100 % <ok> \U0001f600 'a\"b\\"], emotions=["happy"])
    await store.save(saved)
    found = await store.get("a1")
    assert found == saved
    assert list(found.segments[0].emotion.scores) == ["happy", "neutral"]  # type: ignore[union-attr]
    (item,) = (await store.list(EVERYTHING, limit=5)).items
    assert (item.id, item.created_at, item.duration) == ("a1", saved.created_at, saved.duration)
    assert item.transcription == saved.transcription
    assert (item.speakers, item.emotions) == (1, ("happy",))


async def test_an_analysis_of_an_earlier_release_can_still_be_read(
    store: AnalysisStore, database: Database
) -> None:
    """What came later has a default; a body without it is no unreadable analysis."""
    await store.save(analysis("a1", emotions=["happy"]))
    later = {
        "conversation": (
            "talk_share interruptions_by turn_lengths longest_monologue response_time loudness"
        ),
        "quality": "missed repetition snr_db clipped_share",
    }

    def age(connection: sa.Connection) -> None:
        body = json.loads(connection.scalar(sa.select(tables.analyses.c.body)) or "")
        del body["emotion_curves"], body["envelope"]
        for part, names in later.items():
            for name in names.split():
                del body[part][name]
        for turn in body["turns"]:
            del turn["emotion"]
        connection.execute(sa.update(tables.analyses).values(body=json.dumps(body)))

    await database.write(age)
    found = await store.get("a1")
    assert found.conversation.talk_time == {"SPEAKER_00": 1.5}
    assert not (found.quality.missed or found.emotion_curves or found.envelope)
    assert to_response(found).conversation.longest_monologue is None


async def test_an_analysis_without_speech(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=[], language=None)
    await store.save(saved)
    assert await store.get("a1") == saved


async def test_text_that_postgres_cannot_hold(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=["nul \0 inside"])
    await store.save(saved)
    assert await store.get("a1") == saved
    assert await ids(store, AnalysisFilter(text="nul \0 inside")) == ["a1"]


async def test_saving_twice_changes_nothing(store: AnalysisStore, database: Database) -> None:
    """A job that is run again after a crash must not be in the store twice."""
    await store.save(analysis("a1", texts=["one", "two"]))
    before = await rows(database)
    await store.save(analysis("a1", texts=["another"]))
    assert await rows(database) == before == {"analyses": 1, "segments": 2, "speakers": 1}
    assert (await store.get("a1")).transcription == "one two"


async def test_deleting_takes_all_rows(store: AnalysisStore, database: Database) -> None:
    await store.save(analysis("a1", texts=["one", "two"]))
    await store.delete("a1")
    assert set((await rows(database)).values()) == {0}
    with pytest.raises(NotFound):
        await store.delete("a1")
    with pytest.raises(NotFound):
        await store.get("a1")


@pytest.mark.parametrize("strange", ["", "a\0b", "x" * 10_000, "'; DROP TABLE analyses; --", "ä%_"])
async def test_strange_ids_are_not_found(store: AnalysisStore, strange: str) -> None:
    with pytest.raises(NotFound):
        await store.get(strange)
    with pytest.raises(NotFound):
        await store.delete(strange)


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (AnalysisFilter(), ["c", "b", "a"]),
        (AnalysisFilter(text="ÖLTANK"), ["b"]),
        (AnalysisFilter(text="100%"), ["b"]),
        (AnalysisFilter(text="1_0"), []),
        (AnalysisFilter(text="%"), ["b"]),
        (AnalysisFilter(text="\\"), ["c"]),
        (AnalysisFilter(min_speakers=2), ["c"]),
        (AnalysisFilter(max_speakers=1), ["b", "a"]),
        (AnalysisFilter(min_speakers=1, max_speakers=1), ["b", "a"]),
        (AnalysisFilter(emotion="angry"), ["c", "a"]),
        (AnalysisFilter(emotion="ang"), []),
        (AnalysisFilter(language="de"), ["b"]),
        (AnalysisFilter(created_after=NOON), ["c", "b"]),
        (AnalysisFilter(created_before=NOON), ["a"]),
        (AnalysisFilter(created_after=NOON, emotion="angry", text="SEVEN"), ["c"]),
        (
            AnalysisFilter(created_after=NOON.astimezone(timezone(timedelta(hours=5)))),
            ["c", "b"],
        ),
    ],
)
async def test_filters(store: AnalysisStore, wanted: AnalysisFilter, expected: list[str]) -> None:
    second = timedelta(seconds=1)
    a = analysis("a", texts=["one two"], emotions=["angry"], created_at=NOON - second)
    b = analysis("b", texts=["100% Öltank"], language="de", created_at=NOON)
    c = analysis(
        "c",
        texts=["Seven\\", "Eight"],
        emotions=["sad", "angry"],
        speakers=2,
        created_at=NOON + second,
    )
    for one in (b, a, c):
        await store.save(one)
    assert await ids(store, wanted) == expected


async def test_pages_neither_repeat_nor_miss_while_others_are_saved(store: AnalysisStore) -> None:
    """Pages by offset shift when something new comes first; a cursor stays where it was."""
    made = [NOON + timedelta(microseconds=n // 3) for n in range(20)]  # many at the same moment
    for number, moment in enumerate(made):
        await store.save(analysis(f"id{number:02}", created_at=moment))
    seen: list[str] = []
    cursor = None
    for page_number in itertools.count():
        page: Page = await store.list(EVERYTHING, limit=6, cursor=cursor)
        seen += [item.id for item in page.items]
        await store.save(analysis(f"new{page_number}", created_at=NOON + timedelta(days=1)))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"id{n:02}" for n in reversed(range(20))]
    assert page_number == 3


async def test_the_last_page_has_no_next(store: AnalysisStore) -> None:
    for number in range(4):
        await store.save(analysis(f"a{number}"))
    page = await store.list(EVERYTHING, limit=4)
    assert len(page.items) == 4
    assert page.next_cursor is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "!!!!",
        "bm8gY3Vyc29y",
        "MjAyNi0wMS0wMSBh",
        "AAAA",
        "MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OSBh",
    ],
)
async def test_a_strange_cursor_is_refused(store: AnalysisStore, cursor: str) -> None:
    with pytest.raises(InvalidOption):
        await store.list(EVERYTHING, limit=5, cursor=cursor)


async def test_retention_deletes_what_is_too_old(store: AnalysisStore, database: Database) -> None:
    now = datetime.now(timezone.utc)
    for number in range(405):  # more than are deleted in one transaction, twice
        await store.save(analysis(f"old{number}", created_at=now - timedelta(days=31)))
    await store.save(analysis("young", created_at=now - timedelta(days=29)))
    task = asyncio.create_task(keep_for(store, 30, interval_s=0.05))
    try:
        await _until_only(store, "young")
        await store.save(analysis("later", created_at=now - timedelta(days=40)))
        await _until_only(store, "young")
    finally:
        task.cancel()
    assert await rows(database) == {"analyses": 1, "segments": 1, "speakers": 1}


async def _until_only(store: AnalysisStore, analysis_id: str) -> None:
    for _ in range(400):
        if await ids(store) == [analysis_id]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("The old ones are still there")


async def test_simultaneous_writers_all_get_through(store: AnalysisStore) -> None:
    await asyncio.gather(*(store.save(analysis(f"a{n}", texts=["x"] * 20)) for n in range(64)))
    assert len(await ids(store)) == 64


async def test_a_cancelled_save_leaves_nothing_half_written(
    store: AnalysisStore, database: Database
) -> None:
    """Callers hang up at any moment; the connection must come back clean."""
    await store.save(analysis("first"))
    for number in range(40):
        task = asyncio.create_task(store.save(analysis(f"a{number}", texts=["x"] * 50)))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.save(analysis("last"))
    counted = await rows(database)
    whole = counted["analyses"] - 2
    assert counted["segments"] == 2 + whole * 50
    assert counted["speakers"] == counted["analyses"]


# --- the schema


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


# --- a database that fails


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
