"""The parts of the asynchronous SDK: `client.analyses`, …"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from typing_extensions import Unpack

from voice_analytics_client import routes
from voice_analytics_client.answers import (
    AnalysesPage,
    Analysis,
    AnalysisSummary,
    Job,
    JobsPage,
    JobStatus,
    SpeakerProfile,
    SpeakersPage,
)
from voice_analytics_client.requests import AudioFile
from voice_analytics_client.routes import ExportFormat, Filters, Options
from voice_analytics_client.transports import AsyncTransport


class AsyncAnalyses:
    """Analyses that were made."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, **filters: Unpack[Filters]) -> AsyncIterator[AnalysisSummary]:
        """All that pass the filters, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = await self.page(cursor=cursor, **filters)
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(
        self, *, limit: int = routes.PAGE, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> AnalysesPage:
        """One page; its `next_cursor` gives the next."""
        return await self._transport.call(routes.list_analyses(filters, limit, cursor))

    async def get(self, analysis_id: str) -> Analysis:
        """One analysis, as it was answered."""
        return await self._transport.call(routes.get_analysis(analysis_id))

    async def rename_speakers(self, analysis_id: str, names: Mapping[str, str]) -> Analysis:
        """Call its speakers by other names: `{"SPEAKER_00": "Anna"}`, in every later export."""
        return await self._transport.call(routes.rename_analysis_speakers(analysis_id, names))

    async def delete(self, analysis_id: str) -> None:
        """Delete an analysis for good."""
        await self._transport.call(routes.delete_analysis(analysis_id))

    async def export(self, analysis_id: str, format: ExportFormat) -> str:
        """One analysis as a file's text: subtitles, a table, a script, RTTM, JSON."""
        return await self._transport.call(routes.export_analysis(analysis_id, format))


class AsyncJobs:
    """Recordings that are analysed while nobody waits: long ones, and many."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def submit(
        self,
        file: AudioFile,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Hand in a recording. The same `idempotency_key` twice is one job."""
        return await self._transport.call(
            routes.submit_job(file, webhook_url, idempotency_key, options)
        )

    async def list(self, status: JobStatus | None = None) -> AsyncIterator[Job]:
        """All jobs, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = await self.page(status, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(
        self,
        status: JobStatus | None = None,
        *,
        limit: int = routes.PAGE,
        cursor: str | None = None,
    ) -> JobsPage:
        """One page; its `next_cursor` gives the next."""
        return await self._transport.call(routes.list_jobs(status, limit, cursor))

    async def get(self, job_id: str) -> Job:
        """One job, as it is now."""
        return await self._transport.call(routes.get_job(job_id))

    async def cancel(self, job_id: str) -> None:
        """End a job without an analysis."""
        await self._transport.call(routes.cancel_job(job_id))

    async def events(self, job_id: str) -> AsyncIterator[Job]:
        """The job as it is, and again after every change until it has ended."""
        async for job in self._transport.follow(job_id):
            yield job

    async def wait(self, job_id: str, timeout_s: float | None = None) -> Analysis:
        """Wait for a job's analysis.

        Raises:
            JobEnded: it failed or was cancelled.
            RequestTimedOut: it goes on, but the time is up.
        """
        return await self._transport.wait_for_job(job_id, timeout_s)


class AsyncSpeakers:
    """Voices that analyses know by name."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def enrol(self, name: str, *files: AudioFile) -> SpeakerProfile:
        """Enrol a voice by recordings in which nobody else speaks, 3 s of speech each."""
        return await self._transport.call(routes.enrol_speaker(name, files))

    async def list(self) -> AsyncIterator[SpeakerProfile]:
        """All voices, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = await self.page(cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(self, *, limit: int = routes.PAGE, cursor: str | None = None) -> SpeakersPage:
        """One page; its `next_cursor` gives the next."""
        return await self._transport.call(routes.list_speakers(limit, cursor))

    async def get(self, speaker_id: str) -> SpeakerProfile:
        """One voice."""
        return await self._transport.call(routes.get_speaker(speaker_id))

    async def add(self, speaker_id: str, *files: AudioFile) -> SpeakerProfile:
        """Add recordings of a voice."""
        return await self._transport.call(routes.add_takes(speaker_id, files))

    async def rename(self, speaker_id: str, name: str) -> SpeakerProfile:
        """Give a voice another name; analyses made before keep the old one."""
        return await self._transport.call(routes.rename_speaker(speaker_id, name))

    async def delete(self, speaker_id: str) -> None:
        """Forget a voice; analyses made before keep its name."""
        await self._transport.call(routes.delete_speaker(speaker_id))
