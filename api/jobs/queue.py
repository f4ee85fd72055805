"""The queue: DBOS, on SQLite or PostgreSQL. The only module that knows it.

DBOS hands each job to one worker at a time, keeps the pauses between a webhook's attempts over
restarts, and starts again what a dead worker had begun; `docs/decisions/0003-jobs.md` says why it.
Its calls block, and wait as long as the database is away: they run in a thread of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSConfig, SetWorkflowID

T = TypeVar("T")

log = structlog.get_logger(__name__)

JOBS, WEBHOOKS = "jobs", "webhooks"

_POLL_S = 1.0

_RELEASE = "1"
"""Counts up when a workflow's steps change: workers leave alone what another release has begun."""

_RELAUNCH_S = 5.0

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]

_HISTORY = 500
"""Ended workflows that are forgotten at a time."""


class JobQueue:
    """One per process, for DBOS is."""

    def __init__(
        self,
        url: str,
        worker_id: str,
        *,
        concurrency: int,
        run: Callable[[str], Awaitable[bool]],
        deliver: Callable[[str, int], Awaitable[bool]],
        retries_s: Sequence[float],
    ) -> None:
        """
        Args:
            url: of the database that holds the queue.
            worker_id: of this process.
            concurrency: jobs that this process works on at once.
            run: works on a job until it has ended; False when this worker stops before that.
            deliver: tries to deliver a job's webhook for the nth time; True when that is settled.
            retries_s: pauses between a webhook's attempts.
        """
        self._url = _dbos_url(url)
        self._worker_id = worker_id
        self._concurrency = concurrency
        self._run = run
        self._deliver = deliver
        self._retries_s = retries_s
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._launching: asyncio.Task[None] | None = None
        self._analyze: Callable[[str], Coroutine[Any, Any, None]]
        self._notify: Callable[[str], Coroutine[Any, Any, None]]

    @property
    def is_open(self) -> bool:
        return self._launching is not None and self._launching.done()

    def open(self) -> None:
        """Begin to take jobs, as soon as the database is there."""
        self._launching = asyncio.create_task(self._launch())

    async def close(self) -> None:
        """Take no more; what is running stays to be recovered."""
        if self._launching is not None:
            self._launching.cancel()
            await asyncio.gather(self._launching, return_exceptions=True)
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        self._calls.shutdown(wait=False, cancel_futures=True)

    async def enqueue_job(self, job_id: str) -> None:
        """Doing it twice makes no second one."""
        await self._call(self._enqueue, JOBS, job_id, self._analyze, job_id)

    async def enqueue_webhook(self, job_id: str) -> None:
        """Doing it twice makes no second one."""
        await self._call(self._enqueue, WEBHOOKS, f"{job_id}-webhook", self._notify, job_id)

    async def busy_workers(self) -> set[str]:
        """Workers that have begun something and not ended it, dead or alive."""
        return await self._call(self._busy_workers)

    async def recover(self, dead: set[str]) -> int:
        """Let others start again what these workers had begun; how much that was."""
        # Without DBOS' own service for it, saying who is dead is left to the application.
        return len(await self._call(DBOS._recover_pending_workflows, sorted(dead)))

    async def missing(self, job_ids: set[str]) -> set[str]:
        """Those of the jobs that neither wait here nor run: they may be enqueued again."""
        return await self._call(self._missing, job_ids)

    async def forget_ended(self) -> None:
        """The jobs' own rows say how they ended."""
        await self._call(self._forget_ended)

    async def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        self._register(loop)
        while True:
            try:
                await self._call(self._start)
                return
            except Exception as error:  # whatever it is, the rest of the service goes on
                log.warning("queue_unavailable", reason=type(error).__name__)
            await asyncio.sleep(_RELAUNCH_S)

    def _start(self) -> None:
        config: DBOSConfig = {
            "name": "voice-analytics",
            "system_database_url": self._url,
            "executor_id": self._worker_id,
            "application_version": _RELEASE,
            "log_level": "WARNING",
        }
        logging.getLogger("dbos").addHandler(logging.NullHandler())  # else it adds its own
        logging.getLogger("dbos").addFilter(_in_one_line)
        DBOS(config=config)
        try:
            DBOS.launch()
        except Exception:
            DBOS.destroy()
            raise
        for name, most in ((JOBS, self._concurrency), (WEBHOOKS, None)):
            DBOS.register_queue(
                name,
                worker_concurrency=most,
                polling_interval_sec=_POLL_S,
                on_conflict="always_update",
            )

    def _register(self, loop: asyncio.AbstractEventLoop) -> None:
        """Workflows run on DBOS' own event loop, their work on this process' own."""

        async def here(work: Coroutine[Any, Any, T]) -> T:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

        async def run(job_id: str) -> bool:
            return await self._run(job_id)

        async def deliver(job_id: str, attempt: int) -> bool:
            return await self._deliver(job_id, attempt)

        @DBOS.workflow(name="analyze")
        async def analyze(job_id: str) -> None:
            if not await here(run(job_id)):
                await asyncio.Event().wait()  # unfinished, until this process has ended

        @DBOS.step(name="deliver")
        async def attempt(job_id: str, number: int) -> bool:
            return await here(deliver(job_id, number))

        @DBOS.workflow(name="notify")
        async def notify(job_id: str) -> None:
            for number, pause_s in enumerate((0.0, *self._retries_s), start=1):
                if pause_s:
                    await DBOS.sleep_async(pause_s)
                if await attempt(job_id, number):
                    return

        self._analyze, self._notify = analyze, notify

    def _enqueue(
        self,
        queue: str,
        workflow_id: str,
        workflow: Callable[[str], Coroutine[Any, Any, None]],
        job_id: str,
    ) -> None:
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(queue, workflow, job_id)

    def _busy_workers(self) -> set[str]:
        begun = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {workflow.executor_id for workflow in begun if workflow.executor_id is not None}

    def _missing(self, job_ids: set[str]) -> set[str]:
        if not job_ids:
            return set()
        known = DBOS.list_workflows(
            workflow_ids=sorted(job_ids), load_input=False, load_output=False
        )
        ended = {w.workflow_id for w in known if w.status in _ENDED}
        if ended:
            DBOS.delete_workflows(sorted(ended))
        return job_ids - {w.workflow_id for w in known} | ended

    def _forget_ended(self) -> None:
        while True:
            ended = DBOS.list_workflows(
                status=_ENDED, limit=_HISTORY, load_input=False, load_output=False
            )
            if not ended:
                return
            DBOS.delete_workflows([w.workflow_id for w in ended])

    async def _call(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._calls, work, *args)


def _in_one_line(record: logging.LogRecord) -> bool:
    """What fails here is raised, and said by whoever it concerns; a trace of it would be noise."""
    record.exc_info = None
    return True


def _dbos_url(url: str) -> str:
    """PostgreSQL's database as it is, DBOS keeps to a schema of its own; SQLite's file gets a
    neighbour, so that the two don't wait for each other's lock."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return f"sqlite:///{parsed.database}.queue"
    name = parsed.set(drivername="postgresql+psycopg")
    return name.render_as_string(hide_password=False)
