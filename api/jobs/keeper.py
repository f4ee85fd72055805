"""Keeps queue and database in step: what was accepted gets into the queue, what died gets out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime, timedelta, timezone

import structlog

from api.errors import StoreUnavailable
from api.jobs.liveness import WorkerLock
from api.jobs.queue import JobQueue
from api.jobs.uploads import Uploads
from api.metrics import Metrics
from api.store.jobs import JobStore, Workers

log = structlog.get_logger(__name__)

BEAT_S = 5.0
SILENCE_S = 30.0
"""A worker of another machine that says nothing for so long is taken for dead. Were it alive after
all, its jobs would be computed twice, and still end once: the database lets only one end them."""

TIDY_S = 3600.0

_AT_ONCE = 100


class Keeper:
    """One per worker; that several do the same at the same time does no harm."""

    def __init__(
        self,
        worker_id: str,
        lock: WorkerLock,
        workers: Workers,
        jobs: JobStore,
        queue: JobQueue,
        uploads: Uploads,
        metrics: Metrics,
        *,
        retention_days: float | None,
    ) -> None:
        self._worker_id = worker_id
        self._lock = lock
        self._workers = workers
        self._jobs = jobs
        self._queue = queue
        self._uploads = uploads
        self._metrics = metrics
        self._retention_days = retention_days
        self._awake = asyncio.Event()
        self._deaf_until = 0.0
        self._tidied_at = -TIDY_S

    def wake(self) -> None:
        """There is something new to be put into the queue."""
        self._awake.set()

    async def beat(self) -> None:
        """Say that this worker lives, until cancelled; nothing that takes long may hold it up."""
        while True:
            try:
                await self._workers.beat(self._worker_id)
            except StoreUnavailable:
                # The others were as silent as the database was: they get time to be heard again.
                self._deaf_until = time.monotonic() + SILENCE_S
            await asyncio.sleep(BEAT_S)

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._queue.is_open:
                    await self._fill_queue()
                    await self._recover()
                    await self._tidy()
                await self._measure()
            except StoreUnavailable as error:
                log.warning("queue_waits", reason=error.message)
            except Exception:
                log.exception("queue_not_kept")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._awake.wait(), BEAT_S)
            self._awake.clear()

    async def _fill_queue(self) -> None:
        for job_id in await self._jobs.to_enqueue(_AT_ONCE):
            await self._queue.enqueue_job(job_id)
            await self._jobs.enqueued(job_id)
        for job_id in await self._jobs.to_notify(_AT_ONCE):
            await self._queue.enqueue_webhook(job_id)
            await self._jobs.webhook(job_id, "enqueued")

    async def _recover(self) -> None:
        dead_here = self._lock.dead()
        dead = await self._queue.busy_workers() - await self._workers.alive(SILENCE_S) | dead_here
        if time.monotonic() < self._deaf_until:
            dead = dead_here
        if dead:
            recovered = await self._queue.recover(dead)
            log.warning("workers_died", workers=sorted(dead), recovered=recovered)
        for worker_id in dead_here:
            await self._workers.leave(worker_id)
            self._lock.forget(worker_id)
        for job_id in await self._queue.missing(set(await self._jobs.oldest(_AT_ONCE))):
            log.warning("job_was_missing", job=job_id)
            await self._jobs.enqueue_again(job_id)

    async def _tidy(self) -> None:
        """Now and then: what nobody needs any more."""
        if time.monotonic() - self._tidied_at < TIDY_S:
            return
        self._tidied_at = time.monotonic()
        await self._queue.forget_ended()
        await self._uploads.sweep(await self._jobs.under_way())
        await self._workers.forget_silent(TIDY_S)
        if self._retention_days is not None:
            moment = datetime.now(timezone.utc) - timedelta(days=self._retention_days)
            await self._jobs.delete_older(moment)

    async def _measure(self) -> None:
        counts, oldest_s = await self._jobs.depth()
        for status, count in counts.items():
            self._metrics.jobs.labels(status).set(count)
        self._metrics.oldest_job_seconds.set(oldest_s)
