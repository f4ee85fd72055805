"""Accepts jobs, tells of them, cancels them; `open_jobs` puts all the parts together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO
from uuid import uuid4

import orjson

from api.cancelling import cancelled
from api.errors import InvalidOption, StoreUnavailable
from api.jobs.keeper import Keeper
from api.jobs.liveness import WorkerLock
from api.jobs.queue import JobQueue
from api.jobs.runner import JobRunner
from api.jobs.uploads import Uploads
from api.jobs.webhooks import FURTHER_ATTEMPTS, WebhookSender, check_url, pauses_s
from api.metrics import Metrics
from api.service import AnalysisService
from api.settings import Settings
from api.shutdown import shutdown_event
from api.sniff import sniff
from api.store.database import Database
from api.store.jobs import Job, JobStore, NewJob, Workers
from api.types import AnalysisOptions

LONGEST_KEY = 255


@dataclass(frozen=True)
class WebhookRules:
    """Whether and where webhooks may go."""

    has_secret: bool
    allow_private: bool


class Jobs:
    """What endpoints need of jobs: `store` tells of them, `shutdown` when to stop telling."""

    def __init__(
        self,
        store: JobStore,
        uploads: Uploads,
        rules: WebhookRules,
        metrics: Metrics,
        wake: Callable[[], None],
        shutdown: asyncio.Event,
    ) -> None:
        self.store = store
        self.shutdown = shutdown
        self._uploads = uploads
        self._rules = rules
        self._metrics = metrics
        self._wake = wake

    async def accept(
        self,
        upload: BinaryIO,
        options: AnalysisOptions,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Take a recording: on return it and its job survive whatever happens.

        Raises:
            InvalidAudio, UnsupportedAudioFormat: what the first bytes show already.
            InvalidOption: the webhook or the key can't be used.
            Conflict: the key was used for something else.
            StoreUnavailable: there is no room, or no database.
        """
        if webhook_url is not None:
            self._check_webhook(webhook_url)
        if idempotency_key is not None and not 1 <= len(idempotency_key) <= LONGEST_KEY:
            raise InvalidOption(
                "The Idempotency-Key is empty or too long",
                idempotency_key=f"1 to {LONGEST_KEY} characters",
            )
        await asyncio.to_thread(sniff, upload)
        upload.seek(0)
        job_id = uuid4().hex
        digest = await self._uploads.keep(job_id, upload)
        about = hashlib.sha256(orjson.dumps([digest, options, webhook_url])).hexdigest()
        new = NewJob(job_id, options, webhook_url, idempotency_key, about)
        try:
            job = await self.store.create(new)
        except StoreUnavailable:
            raise  # it may have been kept all the same: then the upload is needed
        except Exception:
            await self._uploads.remove(job_id)
            raise
        if job.id != job_id:
            await self._uploads.remove(job_id)
        self._wake()
        return job

    async def cancel(self, job_id: str) -> None:
        """End a job without an analysis; whoever works on it stops within a second or two.

        Raises:
            NotFound, Conflict: see `JobStore.cancel`.
        """
        if await self.store.cancel(job_id):
            self._metrics.jobs_ended.labels("cancelled").inc()
        self._wake()

    def _check_webhook(self, url: str) -> None:
        if not self._rules.has_secret:
            raise InvalidOption(
                "Webhooks are switched off", webhook_url="WEBHOOK_SECRET is not set"
            )
        check_url(url, allow_private=self._rules.allow_private)


@contextlib.asynccontextmanager
async def open_jobs(
    settings: Settings, service: AnalysisService, database: Database, metrics: Metrics
) -> AsyncIterator[Jobs]:
    """Take jobs and work on them; on the way out, what is running is handed back."""
    worker_id = uuid4().hex
    store, workers = JobStore(database), Workers(database)
    uploads = Uploads(settings.jobs_dir or settings.data_dir / "jobs")
    lock = WorkerLock(settings.data_dir / "workers", worker_id)
    runner = JobRunner(service, store, uploads, metrics, max_duration_s=settings.max_job_length)
    sender = WebhookSender(
        store,
        metrics,
        secret=settings.webhook_secret.get_secret_value() if settings.webhook_secret else None,
        allow_private=settings.webhook_allow_private,
        attempts=1 + FURTHER_ATTEMPTS,
    )
    queue = JobQueue(
        settings.analyses_url,
        worker_id,
        concurrency=settings.job_concurrency,
        run=runner.run,
        deliver=sender.deliver,
        retries_s=pauses_s(settings.webhook_retry_seconds),
    )
    keeper = Keeper(
        worker_id,
        lock,
        workers,
        store,
        queue,
        uploads,
        metrics,
        retention_days=settings.retention_days,
    )
    with contextlib.suppress(StoreUnavailable):  # the keeper goes on trying
        await workers.beat(worker_id)
    queue.open()
    keeping = [asyncio.create_task(work) for work in (keeper.beat(), keeper.keep())]
    rules = WebhookRules(settings.webhook_secret is not None, settings.webhook_allow_private)
    try:
        with shutdown_event() as shutdown:
            yield Jobs(store, uploads, rules, metrics, keeper.wake, shutdown)
    finally:
        await cancelled(*keeping)
        await runner.stop()
        await queue.close()
        await sender.close()
        with contextlib.suppress(StoreUnavailable):
            await workers.leave(worker_id)
        lock.release()
