"""Every call of the service as data: the one place that knows its addresses and fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from typing_extensions import TypedDict

from voice_analytics_client.answers import AnalysesPage, Analysis, Health
from voice_analytics_client.requests import AudioFile, Request, Upload, json_as, nothing, text

TextFormat = Literal["text", "srt", "vtt", "tsv", "rttm"]
ExportFormat = Literal["srt", "vtt", "tsv", "txt", "rttm", "json"]


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
    return Request("GET", f"/audio/analyses/{_part(analysis_id)}", json_as(Analysis))


def delete_analysis(analysis_id: str) -> Request[None]:
    return Request("DELETE", f"/audio/analyses/{_part(analysis_id)}", nothing)


def export_analysis(analysis_id: str, format: ExportFormat) -> Request[str]:
    path = f"/audio/analyses/{_part(analysis_id)}/export"
    return Request("GET", path, text, params={"format": format})


def health() -> Request[Health]:
    return Request("GET", "/health", json_as(Health))


def live() -> Request[None]:
    return Request("GET", "/health/live", nothing)


def ready() -> Request[None]:
    return Request("GET", "/health/ready", nothing)


def metrics() -> Request[str]:
    return Request("GET", "/metrics", text)


def _part(name: str) -> str:
    """A piece of a path; a slash in an id must not lead elsewhere.

    Raises:
        ValueError: it is empty, or one of the two names that lead elsewhere.
    """
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no id")
    return quote(name, safe="")
