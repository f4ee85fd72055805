"""The parts of the asynchronous SDK: `client.analyses`, …"""

from __future__ import annotations

from collections.abc import AsyncIterator

from typing_extensions import Unpack

from voice_analytics_client import routes
from voice_analytics_client.answers import AnalysesPage, Analysis, AnalysisSummary
from voice_analytics_client.routes import ExportFormat, Filters
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

    async def delete(self, analysis_id: str) -> None:
        """Delete an analysis for good."""
        await self._transport.call(routes.delete_analysis(analysis_id))

    async def export(self, analysis_id: str, format: ExportFormat) -> str:
        """One analysis as a file's text: subtitles, a table, a script, RTTM, JSON."""
        return await self._transport.call(routes.export_analysis(analysis_id, format))
