"""The composition root: what a worker process is made of, opened in order, closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from api.cache import StageCache
from api.cache_memory import MemoryCache
from api.cache_redis import RedisCache
from api.cancelling import cancelled
from api.detection import Detectors
from api.endpoints.context import AppState
from api.errors import StoreUnavailable
from api.jobs.service import open_jobs
from api.keys import KeyRing, parse
from api.limits import Bounds, CallerLimits, RedisCount
from api.loop_lag import watched
from api.metrics import Metrics
from api.overlap import OverlapDetector
from api.pipeline import Pipeline
from api.probe import HealthMonitor
from api.rollouts.opening import (
    RolloutParts,
    open_rollouts,
    stable_models,
)
from api.scheduling import audio_threads
from api.schemas import BUNDLED_NOTE
from api.service import AnalysisService
from api.serving import Serving
from api.settings import PROJECT_ROOT, Settings
from api.store.analyses import AnalysisStore
from api.store.database import Database
from api.store.profiles import ProfileStore
from api.store.retention import keep_for
from api.streaming.connection import open_connections
from api.streaming.recognizer import Recognizer
from api.streaming.session import StreamParts
from api.triton import TritonClient
from api.vad import VoiceActivityDetector

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings, triton_url: str, figures: Metrics
) -> AsyncIterator[AppState]:
    """Everything of a worker that lasts from its start to its end."""
    repository = settings.repository_dir.resolve()
    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(stack, settings)
        serving = Serving(await stable_models(database, repository), figures)
        figures.describe_models(serving.stable.releases)
        for name, release in serving.stable.releases.items():
            if release.bundled:
                log.warning("bundled_checkpoint", model=name, note=BUNDLED_NOTE)
        executor = stack.enter_context(audio_threads(settings.job_concurrency))
        triton = TritonClient(triton_url, figures, serving.called, serving.is_stable)
        stack.push_async_callback(triton.close)
        monitor = HealthMonitor(
            triton_url,
            settings.watchdog_interval,
            lambda: serving.stable.versions,
            figures.models_looked_at,
        )
        await stack.enter_async_context(monitor.running())
        cache = open_cache(settings, figures)
        stack.push_async_callback(cache.close)
        store, profiles = AnalysisStore(database), ProfileStore(database)
        detectors = Detectors(VoiceActivityDetector(), OverlapDetector())
        rollouts = await stack.enter_async_context(
            open_rollouts(
                RolloutParts(
                    database=database,
                    repository=repository,
                    triton=triton,
                    serving=serving,
                    detectors=detectors,
                    executor=executor,
                    figures=figures,
                    golden_folder=settings.golden_recordings or PROJECT_ROOT / "samples",
                )
            )
        )
        service = AnalysisService(
            Pipeline(triton, detectors, serving, executor, cache, profiles),
            store,
            executor,
            figures,
            max_in_flight=settings.max_concurrent_requests,
            timeout_s=settings.request_timeout,
            max_duration_s=settings.max_audio_length,
            recordings=_scratch_folder(settings),
        )
        parts = StreamParts(
            recognizer=Recognizer(triton, settings.request_timeout),
            serving=serving,
            service=service,
            profiles=profiles,
            detector=detectors.speech,
            executor=executor,
            metrics=figures,
            max_duration_s=settings.max_audio_length,
            endpoint_silence_s=settings.stream_endpoint_silence,
            partial_interval_s=settings.stream_partial_interval,
        )
        streams = await stack.enter_async_context(
            open_connections(
                parts,
                settings.data_dir / "streams",
                max_sessions=settings.stream_max_sessions,
                resume_s=settings.stream_resume_seconds,
                idle_s=settings.stream_idle_seconds,
            )
        )
        background = await stack.enter_async_context(
            open_jobs(settings, service, database, figures)
        )
        await stack.enter_async_context(watched(figures.event_loop_lag.observe))
        yield AppState(
            settings,
            service,
            streams,
            background,
            store,
            profiles,
            monitor,
            figures,
            serving,
            rollouts,
            time.monotonic(),
        )


def _scratch_folder(settings: Settings) -> Path:
    """Where the samples of long recordings lie while they are analysed."""
    folder = settings.data_dir / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)  # where Starlette puts uploads on their way, whatever /tmp is
    return folder


async def open_database(stack: contextlib.AsyncExitStack, settings: Settings) -> Database:
    database = Database(settings.analyses_url, timeout_s=settings.database_timeout)
    stack.push_async_callback(database.close)
    with contextlib.suppress(StoreUnavailable):  # said in the log; the first transaction retries
        await database.migrate()
    if settings.retention_days is not None:
        keeping = keep_for(AnalysisStore(database), settings.retention_days)
        stack.push_async_callback(cancelled, asyncio.create_task(keeping))
    return database


def open_cache(settings: Settings, figures: Metrics) -> StageCache:
    redis = None
    if settings.redis_url is not None:
        redis = RedisCache(
            settings.redis_url,
            timeout_s=settings.redis_timeout,
            ttl_s=settings.cache_ttl,
            on_failure=figures.cache_failed,
        )
    memory = MemoryCache(settings.cache_memory_bytes, settings.cache_ttl)
    return StageCache(memory, figures, redis)


def open_keys(settings: Settings) -> KeyRing:
    return parse(settings.api_keys.get_secret_value() if settings.api_keys else "")


def open_limits(settings: Settings, figures: Metrics) -> CallerLimits:
    redis = None
    if settings.redis_url is not None:
        redis = RedisCount(settings.redis_url, timeout_s=settings.redis_timeout)
    bounds = Bounds(settings.key_requests_per_minute or 0, settings.key_concurrent_requests or 0)
    return CallerLimits(bounds, settings.data_dir / "limits", figures, redis)
