"""One job, from its upload to its end, with everything that may go wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from api.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidAudio,
    ModelUnavailable,
    StoreUnavailable,
    VoiceAnalyticsError,
)
from api.jobs.progress import Progress
from api.jobs.uploads import Uploads
from api.metrics import Metrics
from api.middleware import kind
from api.service import AnalysisService
from api.store.jobs import Job, JobStore, Status
from api.types import Analysis

T = TypeVar("T")

log = structlog.get_logger(__name__)

REPORT_S = 1.0
"""Between two looks at a running job: is it still wanted, and how far is it."""

LONGEST_ATTEMPT_S = LONGEST_WAIT_S = 24 * 3600.0

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
"""What is away is tried again, ever more slowly."""

MOST_INFERENCE_ERRORS = 8
"""A model that dies under a request answers as one does that can't bear the request: two minutes of
trying tell them apart."""

MOST_DEATHS = 10
"""Workers that may die over a job before the job is taken for the cause."""

_PASSING = (ModelUnavailable, StoreUnavailable, DeadlineExceeded)
"""They say nothing about the job: it is tried again until they are over."""


class _Patience:
    """What one job is forgiven."""

    def __init__(self) -> None:
        self._until = time.monotonic() + LONGEST_WAIT_S
        self._inference_errors = 0

    def bears(self, error: VoiceAnalyticsError) -> bool:
        if isinstance(error, InferenceError):
            self._inference_errors += 1
            return self._inference_errors < MOST_INFERENCE_ERRORS
        return isinstance(error, _PASSING) and time.monotonic() < self._until


class JobRunner:
    """Runs jobs; how many at once is the queue's affair."""

    def __init__(
        self,
        service: AnalysisService,
        jobs: JobStore,
        uploads: Uploads,
        metrics: Metrics,
        *,
        max_duration_s: float,
    ) -> None:
        self._service = service
        self._jobs = jobs
        self._uploads = uploads
        self._metrics = metrics
        self._max_duration_s = max_duration_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def run(self, job_id: str) -> bool:
        """Work on a job until it has ended; False: it was handed back, for this worker stops."""
        if self._is_stopping:
            return False
        task = asyncio.create_task(self._run(job_id))
        self._tasks.add(task)
        try:
            await asyncio.wait({task})
            if task.cancelled():
                return False
            task.result()
            return True
        finally:
            task.cancel()
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Hand back what is running, for whichever worker comes next."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job_id: str) -> None:
        patience, retry_s = _Patience(), FIRST_RETRY_S
        while True:
            try:
                await self._attempt(job_id, patience)
                await self._uploads.remove(job_id)
                return
            except (*_PASSING, InferenceError) as error:
                log.warning("job_waits", job=job_id, reason=error.message, retry_in_s=retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    async def _attempt(self, job_id: str, patience: _Patience) -> None:
        """One attempt; on return the job has ended.

        Raises:
            VoiceAnalyticsError: what `patience` bears, or what keeps from ending the job.
        """
        job = await self._jobs.begin(job_id)
        if job is None:
            return
        if job.deaths > MOST_DEATHS:
            error = InferenceError("The worker died again and again", deaths=job.deaths - 1)
            await self._fail(job_id, error)
            return
        try:
            analysis = await self._analyze(job)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreUnavailable):  # then it will be taken for a death
                await self._jobs.give_back(job_id)
            raise
        except VoiceAnalyticsError as error:
            if patience.bears(error):
                await self._jobs.give_back(job_id)
                raise
            await self._fail(job_id, error)
        except Exception:
            log.exception("job_failed_unexpectedly", job=job_id)
            await self._fail(job_id, VoiceAnalyticsError("Something went wrong here"))
        else:
            if analysis is not None:
                await self._succeed(job_id, analysis)

    async def _analyze(self, job: Job) -> Analysis | None:
        """The analysis, by the job's own id; None when it isn't wanted any more."""
        progress = Progress(job.options)
        file = self._uploads.path(job.id)
        if not file.exists():
            raise InvalidAudio("The upload is lost", file="It is not in the folder for uploads")
        work = asyncio.create_task(
            self._service.analyze_file(
                file,
                job.options,
                max_duration_s=self._max_duration_s,
                timeout_s=LONGEST_ATTEMPT_S,
                on_progress=progress.report,
            )
        )
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=REPORT_S)
                if not work.done() and not await self._is_wanted(job.id, progress):
                    return None
            return replace(work.result(), id=job.id)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _is_wanted(self, job_id: str, progress: Progress) -> bool:
        try:
            return await self._jobs.advance(job_id, progress.fraction, progress.stage)
        except StoreUnavailable:
            return True  # the work goes on; its end waits for the database

    async def _succeed(self, job_id: str, analysis: Analysis) -> None:
        if await _insist(lambda: self._jobs.succeed(job_id, analysis)):
            self._service.count(analysis)
            self._ended(job_id, "succeeded")

    async def _fail(self, job_id: str, error: VoiceAnalyticsError) -> None:
        shape = {"error": kind(error), "message": error.message, "details": error.details}
        if await _insist(lambda: self._jobs.fail(job_id, shape)):
            self._metrics.errors.labels(shape["error"]).inc()
            self._ended(job_id, "failed", reason=error.message)

    def _ended(self, job_id: str, status: Status, **details: str) -> None:
        self._metrics.jobs_ended.labels(status).inc()
        log.info("job_ended", job=job_id, status=status, **details)


async def _insist(write: Callable[[], Awaitable[T]]) -> T:
    """Hours of work aren't thrown away because the database is away when they are done."""
    retry_s = FIRST_RETRY_S
    while True:
        try:
            return await write()
        except StoreUnavailable:
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
