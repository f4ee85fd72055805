"""`voice-analytics batch`: many recordings into one results file, however often it is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from voice_analytics_client.aio import AsyncVoiceAnalytics
from voice_analytics_client.answers import Analysis
from voice_analytics_client.cli.context import Service, analysis_options, chosen, current_service
from voice_analytics_client.cli.output import note
from voice_analytics_client.cli.progress import Display, Tally
from voice_analytics_client.cli.recordings import find
from voice_analytics_client.cli.results import FAILED, SUCCEEDED, Results, sha256_of
from voice_analytics_client.errors import (
    TEMPORARY,
    AuthenticationError,
    Forbidden,
    RequestTimedOut,
    ServiceError,
    ServiceUnreachable,
    TooLarge,
    VoiceAnalyticsError,
)
from voice_analytics_client.retries import Retries
from voice_analytics_client.routes import Options


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="DIR|GLOB|MANIFEST…")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where the results go: one JSON line for each recording.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    metavar="N",
    help="Recordings under way at once.",
)
@click.option(
    "--max-wait",
    "max_wait_s",
    type=click.FloatRange(min=0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a service that is away or full before giving up.",
)
@analysis_options
def batch(
    sources: tuple[str, ...],
    out: Path,
    concurrency: int,
    max_wait_s: float,
    **options: Any,
) -> int:
    """Analyse many recordings.

    Give folders, patterns, lists of paths (.txt, one a line) or recordings. Run the same command
    again to go on where it stopped: what is in the results file and hasn't changed since is left
    alone, what failed is tried again. What is too long for an answer at once goes as a job. The
    exit code is 0 only if nothing failed.
    """
    recordings = find(sources)
    results = Results(out, chosen(options))
    try:
        todo = [recording for recording in recordings if not results.has(recording)]
        results.forget(todo)
        if len(todo) < len(recordings):
            note(f"{len(recordings) - len(todo)} of {len(recordings)} are done already")
        work = Batch(current_service(), todo, results, chosen(options), max_wait_s)
        try:
            asyncio.run(work.run(concurrency))
        finally:
            work.report()
    finally:
        results.close()
    return int(bool(work.failures))


class Batch:
    """Recordings on their way into a results file."""

    def __init__(
        self,
        service: Service,
        recordings: list[Path],
        results: Results,
        options: Options,
        max_wait_s: float,
    ) -> None:
        self._service = service
        self._recordings = recordings
        self._results = results
        self._options = options
        self._retries = Retries(attempts=None, within_s=max_wait_s, longest_s=5)
        self._display = Display(Tally(len(recordings), sum(map(_size, recordings))))
        self.failures: list[tuple[Path, str]] = []

    async def run(self, concurrency: int) -> None:
        """Analyse them all.

        Raises:
            VoiceAnalyticsError: the service stayed away, or lets nobody in.
            OSError: the results can't be written.
        """
        queue = iter(self._recordings)
        async with self._service.async_client(self._retries) as client:
            with self._display.shown():
                workers = [
                    asyncio.create_task(self._work(client, queue))
                    for _ in range(min(concurrency, len(self._recordings)))
                ]
                try:
                    await asyncio.gather(*workers)
                finally:
                    for worker in workers:
                        worker.cancel()
                    await asyncio.gather(*workers, return_exceptions=True)

    def report(self) -> None:
        """What came of it."""
        tally = self._display.tally
        if tally.count == 0:
            return
        note(f"{tally.line()} · {tally.audio_s:.0f} s of audio in {tally.elapsed_s:.0f} s")
        if self.failures:
            note(f"{len(self.failures)} failed:", style="red")
            for recording, reason in self.failures:
                note(f"  {recording}: {reason}")
        if tally.done < tally.count:
            note("Not finished; the same command goes on from here.")

    async def _work(self, client: AsyncVoiceAnalytics, queue: Iterator[Path]) -> None:
        for recording in queue:
            try:
                sha256 = await asyncio.to_thread(sha256_of, recording)
                analysis = await self._analyzed(client, recording, sha256)
            except OSError as error:
                self._failed(recording, "", error.strerror or str(error), {"kind": "OSError"})
            except VoiceAnalyticsError as error:
                if _concerns_all(error):
                    raise
                self._failed(recording, sha256, str(error), _facts(error))
            else:
                self._succeeded(recording, sha256, analysis)

    async def _analyzed(
        self, client: AsyncVoiceAnalytics, recording: Path, sha256: str
    ) -> Analysis:
        """Through a job if the recording is too long for an answer at once.

        Raises:
            VoiceAnalyticsError, OSError: as the call does.
        """
        try:
            return await client.analyze(recording, **self._options)
        except TooLarge:
            about = json.dumps([sha256, self._options], sort_keys=True).encode()
            key = f"batch-{hashlib.sha256(about).hexdigest()}"
            job = await client.jobs.submit(recording, idempotency_key=key, **self._options)
            while job.has_ended and job.analysis_id is None:  # of an earlier run; try again
                key = f"batch-{hashlib.sha256((key + job.id).encode()).hexdigest()}"
                job = await client.jobs.submit(recording, idempotency_key=key, **self._options)
            return await client.jobs.wait(job.id)

    def _succeeded(self, recording: Path, sha256: str, analysis: Analysis) -> None:
        self._results.add(recording, sha256, SUCCEEDED, analysis=analysis.raw)
        self._count(recording, audio_s=analysis.duration, failed=False)

    def _failed(self, recording: Path, sha256: str, reason: str, facts: dict[str, Any]) -> None:
        self._results.add(recording, sha256, FAILED, error={"message": reason, **facts})
        self.failures.append((recording, reason))
        self._count(recording, audio_s=0.0, failed=True)

    def _count(self, recording: Path, *, audio_s: float, failed: bool) -> None:
        self._display.counted(size_bytes=_size(recording), audio_s=audio_s, failed=failed)


def _size(recording: Path) -> int:
    try:
        return recording.stat().st_size
    except OSError:
        return 0


def _concerns_all(error: VoiceAnalyticsError) -> bool:
    """Whether every other recording would fail alike: then it is no failure of this one."""
    if isinstance(error, RequestTimedOut):
        return False
    return isinstance(error, (ServiceUnreachable, AuthenticationError, Forbidden, *TEMPORARY))


def _facts(error: VoiceAnalyticsError) -> dict[str, Any]:
    if not isinstance(error, ServiceError):
        return {"kind": type(error).__name__}
    return {
        "kind": error.kind,
        "status": error.status,
        "details": error.details,
        "request_id": error.request_id,
    }
