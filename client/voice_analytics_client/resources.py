"""The parts of the blocking SDK: `client.analyses`, …"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import Unpack

from voice_analytics_client import routes
from voice_analytics_client.answers import AnalysesPage, Analysis, AnalysisSummary
from voice_analytics_client.routes import ExportFormat, Filters
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

    def delete(self, analysis_id: str) -> None:
        """Delete an analysis for good."""
        self._transport.call(routes.delete_analysis(analysis_id))

    def export(self, analysis_id: str, format: ExportFormat) -> str:
        """One analysis as a file's text: subtitles, a table, a script, RTTM, JSON."""
        return self._transport.call(routes.export_analysis(analysis_id, format))
