"""Deletes what is older than it may become."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import structlog

from api.errors import StoreUnavailable
from api.store.analyses import AnalysisStore

log = structlog.get_logger(__name__)

INTERVAL_S = 3600.0
"""Ages count in days, so an hour doesn't matter. Every worker does it; the second finds nothing."""


async def keep_for(store: AnalysisStore, days: float, *, interval_s: float = INTERVAL_S) -> None:
    """Delete analyses older than `days`, now and every `interval_s`, until cancelled."""
    while True:
        try:
            deleted = await store.delete_older(datetime.now(timezone.utc) - timedelta(days=days))
            if deleted:
                log.info("analyses_expired", deleted=deleted, retention_days=days)
        except StoreUnavailable as error:
            log.warning("retention_postponed", reason=error.message)
        await asyncio.sleep(interval_s)
