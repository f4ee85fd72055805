"""Jobs: what was accepted, how far it is, how it ended. The row is the truth, whoever works on it.

Every change asks for the state that it starts from, so that a worker that was taken for dead, or
comes back too late, changes nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import TypeAdapter

from api.errors import Conflict, NotFound
from api.store.analyses import insertion
from api.store.cursors import from_cursor, to_cursor
from api.store.database import Database
from api.store.tables import jobs, workers
from api.types import Analysis, AnalysisOptions

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
UNDER_WAY: tuple[Status, ...] = ("queued", "running")

_OPTIONS = TypeAdapter(AnalysisOptions)


@dataclass(frozen=True)
class Webhook:
    """Who is told of the end; `status`: waiting for it, due, enqueued, delivered or failed."""

    url: str
    status: str
    attempts: int


@dataclass(frozen=True)
class Job:
    """One recording to be analysed."""

    id: str
    status: Status
    progress: float
    stage: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    analysis_id: str | None
    error: dict[str, Any] | None
    options: AnalysisOptions
    webhook: Webhook | None
    revision: int
    """Counts up with every change."""
    deaths: int
    """Attempts that ended with their worker."""

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class NewJob:
    """What a caller asks for; `request_digest` stands for all of it, the recording included."""

    id: str
    options: AnalysisOptions
    webhook_url: str | None
    idempotency_key: str | None
    request_digest: str


@dataclass(frozen=True)
class JobsPage:
    """Newest first; `next_cursor` is None on the last page."""

    items: tuple[Job, ...]
    next_cursor: str | None


class JobStore:
    """Every method raises `StoreUnavailable` when the database is absent, locked or full."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: NewJob) -> Job:
        """Accept a job, or give the one that was accepted by the same idempotency key.

        Raises:
            Conflict: the key was used for something else.
        """
        row = {
            "id": new.id,
            "created_at": _now(),
            "status": "queued",
            "progress": 0.0,
            "revision": 1,
            "deaths": 0,
            "enqueued": False,
            "options": _OPTIONS.dump_json(new.options).decode(),
            "webhook_url": new.webhook_url,
            "webhook_status": "waiting" if new.webhook_url else None,
            "webhook_attempts": 0,
            "idempotency_key": new.idempotency_key,
            "request_digest": new.request_digest,
        }

        def create(connection: sa.Connection) -> sa.RowMapping:
            insert = sa.insert(jobs).values(row)
            if new.idempotency_key is None:
                connection.execute(insert)
                return _one(connection, new.id)
            try:
                with connection.begin_nested():
                    connection.execute(insert)
            except sa.exc.IntegrityError:
                by_key = sa.select(jobs).where(jobs.c.idempotency_key == new.idempotency_key)
                return connection.execute(by_key).mappings().one()
            return _one(connection, new.id)

        found = await self._database.write(create)
        if found["request_digest"] != new.request_digest:
            raise Conflict("This Idempotency-Key was used for another request", job_id=found["id"])
        return _job(found)

    async def get(self, job_id: str) -> Job:
        """
        Raises:
            NotFound: there is none by that id.
        """
        _check_form(job_id)
        return _job(await self._database.read(lambda connection: _one(connection, job_id)))

    async def list(
        self, status: Status | None = None, *, limit: int, cursor: str | None = None
    ) -> JobsPage:
        """One page, newest first.

        Raises:
            InvalidOption: the cursor isn't one that a page gave.
        """
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        if status is not None:
            query = query.where(jobs.c.status == status)
        if cursor is not None:
            created_at, job_id = from_cursor(cursor)
            query = query.where(
                sa.or_(
                    jobs.c.created_at < created_at,
                    sa.and_(jobs.c.created_at == created_at, jobs.c.id < job_id),
                )
            )
        rows = await self._database.read(
            lambda connection: connection.execute(query.limit(limit + 1)).mappings().all()
        )
        items = tuple(_job(row) for row in rows[:limit])
        last = items[-1] if len(rows) > limit else None
        return JobsPage(items, to_cursor(last.created_at, last.id) if last else None)

    async def begin(self, job_id: str) -> Job | None:
        """Start an attempt; None when the job has ended already, or is gone."""
        started_at = sa.func.coalesce(jobs.c.started_at, sa.literal(_now(), jobs.c.started_at.type))
        changes = {"status": "running", "started_at": started_at, "deaths": jobs.c.deaths + 1}
        return await self._change(job_id, UNDER_WAY, changes)

    async def advance(self, job_id: str, progress: float, stage: str | None) -> bool:
        """Say how far a running job is, never less than before; False: it doesn't run any more."""
        reached = sa.case((jobs.c.progress < progress, progress), else_=jobs.c.progress)
        changes = {"progress": reached, "stage": stage}
        return await self._change(job_id, ("running",), changes) is not None

    async def give_back(self, job_id: str) -> None:
        """End an attempt in good order, to be made again by whoever comes next."""
        await self._change(job_id, ("running",), {"status": "queued", "deaths": jobs.c.deaths - 1})

    async def succeed(self, job_id: str, analysis: Analysis) -> bool:
        """Keep the analysis and end the job, both or neither; False: it isn't running any more."""
        changes = {"progress": 1.0, "analysis_id": analysis.id}
        keep = await asyncio.to_thread(insertion, analysis)
        return await self._end(job_id, ("running",), "succeeded", changes, keep) is not None

    async def fail(self, job_id: str, error: dict[str, Any]) -> bool:
        """End the job without an analysis; False: it isn't running any more."""
        return await self._end(job_id, ("running",), "failed", {"error": error}) is not None

    async def cancel(self, job_id: str) -> bool:
        """End a job that hasn't ended; cancelling it again changes nothing, and gives False.

        Raises:
            NotFound: there is none by that id.
            Conflict: it has succeeded or failed.
        """
        _check_form(job_id)
        if await self._end(job_id, UNDER_WAY, "cancelled", {}) is not None:
            return True
        job = await self.get(job_id)
        if job.status != "cancelled":
            raise Conflict("The job has ended", status=job.status)
        return False

    async def to_enqueue(self, limit: int) -> Sequence[str]:
        """Oldest first: jobs that were accepted, but that no queue holds yet."""
        wanted = sa.and_(jobs.c.enqueued.is_(False), jobs.c.status.in_(UNDER_WAY))
        return await self._ids(wanted, limit)

    async def enqueued(self, job_id: str) -> None:
        await self._mark(job_id, {"enqueued": True})

    async def enqueue_again(self, job_id: str) -> None:
        """The queue has lost the job."""
        await self._mark(job_id, {"enqueued": False}, jobs.c.status.in_(UNDER_WAY))

    async def to_notify(self, limit: int) -> Sequence[str]:
        """Oldest first: ended jobs of which nobody has been told yet, nor is about to be."""
        return await self._ids(jobs.c.webhook_status == "due", limit)

    async def webhook(self, job_id: str, status: str, attempts: int | None = None) -> None:
        """What has become of the webhook; one that was delivered stays so."""
        changes: dict[str, Any] = {"webhook_status": status}
        if attempts is not None:
            changes["webhook_attempts"] = attempts
        await self._mark(job_id, changes, jobs.c.webhook_status != "delivered")

    async def oldest(self, limit: int) -> Sequence[str]:
        """Jobs that were put into the queue and haven't ended, oldest first."""
        wanted = sa.and_(jobs.c.enqueued.is_(True), jobs.c.status.in_(UNDER_WAY))
        return await self._ids(wanted, limit)

    async def under_way(self) -> set[str]:
        """Ids of all jobs that haven't ended."""
        query = sa.select(jobs.c.id).where(jobs.c.status.in_(UNDER_WAY))
        return set(await self._database.read(lambda c: c.scalars(query).all()))

    async def depth(self) -> tuple[dict[str, int], float]:
        """How many jobs wait and run, and how long the oldest of those waiting has waited, in s."""
        query = (
            sa.select(jobs.c.status, sa.func.count(), sa.func.min(jobs.c.created_at))
            .where(jobs.c.status.in_(UNDER_WAY))
            .group_by(jobs.c.status)
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        counts = {status: 0 for status in UNDER_WAY} | {row[0]: row[1] for row in rows}
        oldest = next((row[2] for row in rows if row[0] == "queued"), None)
        return counts, max(0.0, (_now() - oldest).total_seconds()) if oldest else 0.0

    async def delete_older(self, moment: datetime) -> int:
        """Forget jobs that ended before `moment`; how many that were."""
        query = sa.delete(jobs).where(jobs.c.finished_at < moment)
        return await self._database.write(lambda c: c.execute(query).rowcount)

    async def _end(
        self,
        job_id: str,
        expected: Sequence[Status],
        status: Status,
        changes: dict[str, Any],
        also: Callable[[sa.Connection], None] | None = None,
    ) -> Job | None:
        due = sa.case((jobs.c.webhook_url.is_not(None), "due"))
        ending = {"status": status, "finished_at": _now(), "webhook_status": due}
        return await self._change(job_id, expected, {**changes, **ending}, also)

    async def _change(
        self,
        job_id: str,
        expected: Sequence[Status],
        changes: dict[str, Any],
        also: Callable[[sa.Connection], None] | None = None,
    ) -> Job | None:
        update = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.status.in_(expected))
            .values({**changes, "revision": jobs.c.revision + 1})
        )

        def change(connection: sa.Connection) -> sa.RowMapping | None:
            if connection.execute(update).rowcount == 0:
                return None
            if also is not None:
                also(connection)
            return _one(connection, job_id)

        row = await self._database.write(change)
        return None if row is None else _job(row)

    async def _mark(
        self, job_id: str, changes: dict[str, Any], *conditions: sa.ColumnElement[bool]
    ) -> None:
        update = sa.update(jobs).where(jobs.c.id == job_id, *conditions).values(changes)
        await self._database.write(lambda connection: connection.execute(update))

    async def _ids(self, wanted: sa.ColumnElement[bool], limit: int) -> Sequence[str]:
        query = sa.select(jobs.c.id).where(wanted).order_by(jobs.c.created_at).limit(limit)
        return await self._database.read(lambda connection: connection.scalars(query).all())


class Workers:
    """Which workers live: each says so again and again, and who falls silent is taken for dead."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, worker_id: str) -> None:
        def beat(connection: sa.Connection) -> None:
            now = {"beat_at": _clock(connection)}
            update = sa.update(workers).where(workers.c.id == worker_id).values(now)
            if connection.execute(update).rowcount == 0:
                connection.execute(sa.insert(workers).values(id=worker_id, **now))

        await self._database.write(beat)

    async def alive(self, within_s: float) -> set[str]:
        """Workers that were heard of within so many seconds."""

        def heard(connection: sa.Connection) -> set[str]:
            since = _clock(connection) - timedelta(seconds=within_s)
            query = sa.select(workers.c.id).where(workers.c.beat_at >= since)
            return set(connection.scalars(query))

        return await self._database.read(heard)

    async def leave(self, worker_id: str) -> None:
        """The worker ends: what it leaves behind may be taken over at once."""
        query = sa.delete(workers).where(workers.c.id == worker_id)
        await self._database.write(lambda connection: connection.execute(query))

    async def forget_silent(self, for_s: float) -> None:
        def forget(connection: sa.Connection) -> None:
            since = _clock(connection) - timedelta(seconds=for_s)
            connection.execute(sa.delete(workers).where(workers.c.beat_at < since))

        await self._database.write(forget)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _clock(connection: sa.Connection) -> datetime:
    """The one clock of all workers: the machine's with SQLite, else the database's."""
    if connection.dialect.name == "sqlite":
        return _now()
    moment: datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    return moment


def _one(connection: sa.Connection, job_id: str) -> sa.RowMapping:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()
    if row is None:
        raise _unknown(job_id)
    return row


def _check_form(job_id: str) -> None:
    if len(job_id) > 32 or not job_id.isalnum():
        raise _unknown(job_id)


def _unknown(job_id: str) -> NotFound:
    return NotFound("There is no job by that id", id=job_id)


def _job(row: sa.RowMapping) -> Job:
    url = row["webhook_url"]
    webhook = Webhook(url, row["webhook_status"], row["webhook_attempts"]) if url else None
    same = (
        "id status progress stage created_at started_at finished_at analysis_id error revision "
        "deaths"
    ).split()
    return Job(
        **{name: row[name] for name in same},
        options=_OPTIONS.validate_json(row["options"]),
        webhook=webhook,
    )
