"""Every call of the service as data: the one place that knows its addresses and fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import uuid4

from typing_extensions import TypedDict

from voice_analytics_client.answers import (
    AnalysesPage,
    Analysis,
    Health,
    Job,
    JobsPage,
    JobStatus,
    SpeakerProfile,
    SpeakersPage,
)
from voice_analytics_client.requests import AudioFile, Request, Upload, json_as, nothing, text

TextFormat = Literal["text", "srt", "vtt", "tsv", "rttm", "html"]
ExportFormat = Literal["srt", "vtt", "tsv", "txt", "rttm", "html", "json"]


PAGE = 100
"""Most that a list answers at once."""


class Options(TypedDict, total=False):
    """What to ask of an analysis; what is left out is the service's choice."""

    language: str | None
    task: Literal["transcribe", "translate"]
    diarize: bool
    num_speakers: int | None
    min_speakers: int | None
    max_speakers: int | None
    emotions: bool
    word_timestamps: bool
    identify_speakers: bool
    prompt: str | None
    beam_size: int | None


class Filters(TypedDict, total=False):
    """Which analyses a list shows; all that are given must hold."""

    created_after: datetime
    created_before: datetime
    text: str
    speakers: int
    min_speakers: int
    max_speakers: int
    emotion: str
    language: str


def analyze(file: AudioFile, options: Options) -> Request[Analysis]:
    """Repeatable: an analysis hangs on nothing but the upload, and the service finds the parts of a
    first try in its cache. When only the answer was lost, the store keeps one analysis too many."""
    return Request(
        "POST",
        "/audio/analyze",
        json_as(Analysis),
        form=options,
        uploads=(("file", Upload.of(file)),),
    )


def analyze_as(file: AudioFile, format: TextFormat, options: Options) -> Request[str]:
    form: Mapping[str, Any] = {**options, "response_format": format}
    uploads = (("file", Upload.of(file)),)
    return Request("POST", "/audio/analyze", text, form=form, uploads=uploads)


def list_analyses(filters: Filters, limit: int, cursor: str | None) -> Request[AnalysesPage]:
    given = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in filters.items()
    }
    return Request(
        "GET",
        "/audio/analyses",
        json_as(AnalysesPage),
        params={**given, "limit": limit, "cursor": cursor},
    )


def get_analysis(analysis_id: str) -> Request[Analysis]:
    return Request("GET", f"/audio/analyses/{path_part(analysis_id)}", json_as(Analysis))


def rename_analysis_speakers(analysis_id: str, names: Mapping[str, str]) -> Request[Analysis]:
    """Not repeatable: had only the answer been lost, nobody would go by the old names any more."""
    return Request(
        "PATCH",
        f"/audio/analyses/{path_part(analysis_id)}",
        json_as(Analysis),
        body={"speakers": dict(names)},
        is_repeatable=False,
    )


def delete_analysis(analysis_id: str) -> Request[None]:
    return Request("DELETE", f"/audio/analyses/{path_part(analysis_id)}", nothing)


def export_analysis(analysis_id: str, format: ExportFormat) -> Request[str]:
    path = f"/audio/analyses/{path_part(analysis_id)}/export"
    return Request("GET", path, text, params={"format": format})


def submit_job(
    file: AudioFile, webhook_url: str | None, idempotency_key: str | None, options: Options
) -> Request[Job]:
    """Repeatable: the service takes a key once, and a key is made where none is given."""
    return Request(
        "POST",
        "/audio/jobs",
        json_as(Job),
        form={**options, "webhook_url": webhook_url},
        uploads=(("file", Upload.of(file)),),
        headers={"Idempotency-Key": idempotency_key or uuid4().hex},
    )


def list_jobs(status: JobStatus | None, limit: int, cursor: str | None) -> Request[JobsPage]:
    params = {"status": status, "limit": limit, "cursor": cursor}
    return Request("GET", "/audio/jobs", json_as(JobsPage), params=params)


def get_job(job_id: str) -> Request[Job]:
    return Request("GET", f"/audio/jobs/{path_part(job_id)}", json_as(Job))


def cancel_job(job_id: str) -> Request[None]:
    return Request("DELETE", f"/audio/jobs/{path_part(job_id)}", nothing)


def job_events(job_id: str, last_event_id: str | None) -> Request[None]:
    """An endless answer: `voice_analytics_client.following` reads it."""
    headers = {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = last_event_id
    return Request("GET", f"/audio/jobs/{path_part(job_id)}/events", nothing, headers=headers)


def enrol_speaker(name: str, files: Iterable[AudioFile]) -> Request[SpeakerProfile]:
    return Request(
        "POST",
        "/speakers",
        json_as(SpeakerProfile),
        form={"name": name},
        uploads=_takes(files),
        is_repeatable=False,
    )


def list_speakers(limit: int, cursor: str | None) -> Request[SpeakersPage]:
    params = {"limit": limit, "cursor": cursor}
    return Request("GET", "/speakers", json_as(SpeakersPage), params=params)


def get_speaker(speaker_id: str) -> Request[SpeakerProfile]:
    return Request("GET", f"/speakers/{path_part(speaker_id)}", json_as(SpeakerProfile))


def add_takes(speaker_id: str, files: Iterable[AudioFile]) -> Request[SpeakerProfile]:
    return Request(
        "POST",
        f"/speakers/{path_part(speaker_id)}/takes",
        json_as(SpeakerProfile),
        uploads=_takes(files),
        is_repeatable=False,
    )


def rename_speaker(speaker_id: str, name: str) -> Request[SpeakerProfile]:
    path = f"/speakers/{path_part(speaker_id)}"
    return Request("PATCH", path, json_as(SpeakerProfile), body={"name": name})


def delete_speaker(speaker_id: str) -> Request[None]:
    return Request("DELETE", f"/speakers/{path_part(speaker_id)}", nothing)


def _takes(files: Iterable[AudioFile]) -> tuple[tuple[str, Upload], ...]:
    return tuple(("file", Upload.of(file)) for file in files)


def health() -> Request[Health]:
    return Request("GET", "/health", json_as(Health))


def live() -> Request[None]:
    return Request("GET", "/health/live", nothing)


def ready() -> Request[None]:
    return Request("GET", "/health/ready", nothing)


def metrics() -> Request[str]:
    return Request("GET", "/metrics", text)


def path_part(name: str) -> str:
    """A piece of a path; a slash in an id must not lead elsewhere.

    Raises:
        ValueError: it is empty, or one of the two names that lead elsewhere.
    """
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no id")
    return quote(name, safe="")
