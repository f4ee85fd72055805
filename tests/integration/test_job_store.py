"""The rows of jobs, over a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.errors import Conflict, NotFound
from api.store.analyses import AnalysisFilter, AnalysisStore
from api.store.database import Database
from api.store.jobs import Job, JobStore, NewJob, Workers
from api.types import AnalysisOptions
from tests.analyses import analysis
from tests.integration.databases import PostgresServer

URL = "https://example.com/hook"


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/jobs.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    opened = Database(url, timeout_s=5)
    yield opened
    await opened.close()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


async def accepted(jobs: JobStore, job_id: str, key: str | None = None) -> Job:
    options = AnalysisOptions(language="en", num_speakers=2)
    return await jobs.create(NewJob(job_id, options, URL, key, "digest"))


async def test_a_job_goes_its_way(jobs: JobStore) -> None:
    made = await accepted(jobs, "a")
    assert (made.status, made.progress, made.options.num_speakers) == ("queued", 0.0, 2)
    assert await jobs.to_enqueue(10) == ["a"]
    await jobs.enqueued("a")
    assert await jobs.to_enqueue(10) == []
    begun = await jobs.begin("a")
    assert begun is not None and (begun.status, begun.deaths) == ("running", 1)
    assert await jobs.advance("a", 0.5, "whisper")
    assert await jobs.advance("a", 0.2, "decode"), "an attempt that starts anew"
    job = await jobs.get("a")
    assert (job.progress, job.stage) == (0.5, "decode")
    assert await jobs.depth() == ({"queued": 0, "running": 1}, 0.0)
    assert await jobs.fail("a", {"error": "InferenceError", "message": "m", "details": {}})
    ended = await jobs.get("a")
    assert ended.error == {"error": "InferenceError", "message": "m", "details": {}}
    assert ended.revision > job.revision > made.revision
    assert ended.finished_at is not None and ended.started_at == begun.started_at
    assert await jobs.to_notify(10) == ["a"]
    await jobs.webhook("a", "delivered", 2)
    await jobs.webhook("a", "enqueued")
    webhook = (await jobs.get("a")).webhook
    assert webhook is not None and (webhook.status, webhook.attempts) == ("delivered", 2)


async def test_of_all_who_end_a_job_one_does(database: Database, jobs: JobStore) -> None:
    """Two workers, one of them taken for dead, and a caller who cancels: all at the same time."""
    store = AnalysisStore(database)
    for number in range(5):
        job_id = f"job{number}"
        await accepted(jobs, job_id)
        await jobs.begin(job_id)
        ended = await asyncio.gather(
            jobs.succeed(job_id, analysis(job_id, texts=["one"])),
            jobs.succeed(job_id, analysis(job_id, texts=["one"])),
            jobs.fail(job_id, {}),
            jobs.cancel(job_id),
            return_exceptions=True,
        )
        wins = [outcome for outcome in ended[:3] if outcome is True]
        status = (await jobs.get(job_id)).status
        assert len(wins) == (status != "cancelled")
        kept = [a.id for a in (await store.list(AnalysisFilter(), limit=100)).items]
        assert kept.count(job_id) == (status == "succeeded")
        assert await jobs.begin(job_id) is None
        assert not await jobs.advance(job_id, 0.9, "whisper")


async def test_orderly_ends_of_attempts_are_no_deaths(jobs: JobStore) -> None:
    await accepted(jobs, "a")
    for _ in range(3):
        await jobs.begin("a")
        await jobs.give_back("a")
    job = await jobs.get("a")
    assert (job.status, job.deaths) == ("queued", 0)
    assert [job.deaths for job in [await jobs.begin("a"), await jobs.begin("a")] if job] == [1, 2]


async def test_keys_hold_among_many_at_once(jobs: JobStore) -> None:
    made = await asyncio.gather(*(accepted(jobs, f"job{n}", "key") for n in range(8)))
    assert len({job.id for job in made}) == 1
    with pytest.raises(Conflict):
        await jobs.create(NewJob("other", AnalysisOptions(), None, "key", "another digest"))
    assert (await accepted(jobs, "without")).id == "without"


async def test_only_what_runs_or_waits_is_cancelled(jobs: JobStore) -> None:
    await accepted(jobs, "a")
    await jobs.cancel("a")
    await jobs.cancel("a")
    await accepted(jobs, "b")
    await jobs.begin("b")
    await jobs.succeed("b", analysis("b", texts=["one"]))
    with pytest.raises(Conflict):
        await jobs.cancel("b")
    for unknown in ("c", "x" * 33, "../../etc"):
        with pytest.raises(NotFound):
            await jobs.cancel(unknown)
    assert await jobs.under_way() == set()


async def test_the_silent_are_not_alive(database: Database) -> None:
    workers = Workers(database)
    for worker in ("a", "b", "a"):
        await workers.beat(worker)
    assert await workers.alive(30) == {"a", "b"}
    assert await workers.alive(-1) == set()
    await workers.leave("a")
    assert await workers.alive(30) == {"b"}
    await workers.forget_silent(-1)
    assert await workers.alive(30) == set()
