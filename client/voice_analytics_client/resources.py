"""The parts of the blocking SDK: `client.analyses`, …"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
from voice_analytics_client.transports import BlockingTransport


class Analyses:
    """Analyses that were made."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self, **filters: Unpack[Filters]) -> Iterator[AnalysisSummary]:
        """All that pass the filters, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self.page(cursor=cursor, **filters)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(
        self, *, limit: int = routes.PAGE, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> AnalysesPage:
        """One page; its `next_cursor` gives the next."""
        return self._transport.call(routes.list_analyses(filters, limit, cursor))

    def get(self, analysis_id: str) -> Analysis:
        """One analysis, as it was answered."""
        return self._transport.call(routes.get_analysis(analysis_id))

    def rename_speakers(self, analysis_id: str, names: Mapping[str, str]) -> Analysis:
        """Call its speakers by other names: `{"SPEAKER_00": "Anna"}`, in every later export."""
        return self._transport.call(routes.rename_analysis_speakers(analysis_id, names))

    def delete(self, analysis_id: str) -> None:
        """Delete an analysis for good."""
        self._transport.call(routes.delete_analysis(analysis_id))

    def export(self, analysis_id: str, format: ExportFormat) -> str:
        """One analysis as a file's text: subtitles, a table, a script, RTTM, JSON."""
        return self._transport.call(routes.export_analysis(analysis_id, format))


class Jobs:
    """Recordings that are analysed while nobody waits: long ones, and many."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def submit(
        self,
        file: AudioFile,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Hand in a recording. The same `idempotency_key` twice is one job."""
        return self._transport.call(routes.submit_job(file, webhook_url, idempotency_key, options))

    def list(self, status: JobStatus | None = None) -> Iterator[Job]:
        """All jobs, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self.page(status, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(
        self,
        status: JobStatus | None = None,
        *,
        limit: int = routes.PAGE,
        cursor: str | None = None,
    ) -> JobsPage:
        """One page; its `next_cursor` gives the next."""
        return self._transport.call(routes.list_jobs(status, limit, cursor))

    def get(self, job_id: str) -> Job:
        """One job, as it is now."""
        return self._transport.call(routes.get_job(job_id))

    def cancel(self, job_id: str) -> None:
        """End a job without an analysis."""
        self._transport.call(routes.cancel_job(job_id))

    def events(self, job_id: str) -> Iterator[Job]:
        """The job as it is, and again after every change until it has ended."""
        yield from self._transport.follow(job_id)

    def wait(self, job_id: str, timeout_s: float | None = None) -> Analysis:
        """Wait for a job's analysis.

        Raises:
            JobEnded: it failed or was cancelled.
            RequestTimedOut: it goes on, but the time is up.
        """
        return self._transport.wait_for_job(job_id, timeout_s)


class Speakers:
    """Voices that analyses know by name."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def enrol(self, name: str, *files: AudioFile) -> SpeakerProfile:
        """Enrol a voice by recordings in which nobody else speaks, 3 s of speech each."""
        return self._transport.call(routes.enrol_speaker(name, files))

    def list(self) -> Iterator[SpeakerProfile]:
        """All voices, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self.page(cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def page(self, *, limit: int = routes.PAGE, cursor: str | None = None) -> SpeakersPage:
        """One page; its `next_cursor` gives the next."""
        return self._transport.call(routes.list_speakers(limit, cursor))

    def get(self, speaker_id: str) -> SpeakerProfile:
        """One voice."""
        return self._transport.call(routes.get_speaker(speaker_id))

    def add(self, speaker_id: str, *files: AudioFile) -> SpeakerProfile:
        """Add recordings of a voice."""
        return self._transport.call(routes.add_takes(speaker_id, files))

    def rename(self, speaker_id: str, name: str) -> SpeakerProfile:
        """Give a voice another name; analyses made before keep the old one."""
        return self._transport.call(routes.rename_speaker(speaker_id, name))

    def delete(self, speaker_id: str) -> None:
        """Forget a voice; analyses made before keep its name."""
        self._transport.call(routes.delete_speaker(speaker_id))
