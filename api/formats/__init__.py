"""An analysis to read: subtitles, tables, a script with speakers, RTTM, a report."""

from __future__ import annotations

from collections.abc import Callable

from api.formats.report import html
from api.formats.subtitles import srt, vtt
from api.formats.tables import rttm, text, tsv
from api.types import Analysis

FORMATS: dict[str, tuple[Callable[[Analysis], str], str]] = {
    "text": (text, "text/plain"),
    "srt": (srt, "application/x-subrip"),
    "vtt": (vtt, "text/vtt"),
    "tsv": (tsv, "text/tab-separated-values"),
    "rttm": (rttm, "text/plain"),
    "html": (html, "text/html"),
}
"""Name of the format → its writer and media type."""

REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy of what we send: the report brings its style, and nothing in it runs."""

__all__ = ["FORMATS", "REPORT_POLICY", "html", "rttm", "srt", "text", "tsv", "vtt"]
