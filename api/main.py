"""Entry point: the app, and the processes around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from uvicorn.supervisors import ChangeReload, Multiprocess

from api import document
from api import metrics as api_metrics
from api import model_config, tracing
from api.access import Access
from api.cache import StageCache
from api.cache_memory import MemoryCache
from api.cache_redis import RedisCache
from api.deadline import RequestDeadline
from api.endpoints import (
    analyses,
    audio,
    health,
    jobs,
    metrics,
    models,
    openai,
    page,
    speakers,
    stream,
)
from api.endpoints.context import AppState
from api.errors import ConfigurationError, StoreUnavailable
from api.headers import SecurityHeaders
from api.jobs.service import open_jobs
from api.keys import KeyRing, parse
from api.limits import Bounds, CallerLimits, RedisCount
from api.logging import configure_logging
from api.metrics import Metrics
from api.middleware import RequestContext, UploadLimit, install_error_handlers
from api.pipeline import Pipeline
from api.probe import HealthMonitor
from api.repository import seed
from api.rollouts.opening import (
    RolloutParts,
    open_rollouts,
    prepare_repository,
    stable_models,
)
from api.schemas import BUNDLED_NOTE
from api.service import AnalysisService
from api.serving import Serving
from api.settings import PROJECT_ROOT, Settings, load_settings
from api.store.analyses import AnalysisStore
from api.store.database import Database
from api.store.profiles import ProfileStore
from api.store.retention import keep_for
from api.streaming.connection import open_connections
from api.streaming.recognizer import Recognizer
from api.streaming.session import StreamParts
from api.triton import TritonClient
from api.triton_server import EmbeddedTriton, Ports, bind
from api.vad import VoiceActivityDetector
from api.version import VERSION
from api.watchdog import Watchdog

log = structlog.get_logger(__name__)

WS_MESSAGE_BYTES = 2**20
"""Largest message of a live stream, 32 s of 16-bit audio; raw audio isn't worth compressing."""

WS_PING_S = 20.0
"""Pings keep proxies from closing a quiet connection. An unanswered one doesn't end it: while a
flood holds the socket back, its answers can't be read. STREAM_IDLE_SECONDS finds the dead."""

_CORS_REQUEST_HEADERS = (
    "Authorization X-API-Key X-Request-ID X-Request-Timeout Idempotency-Key Last-Event-ID".split()
)
_CORS_ANSWER_HEADERS = "X-Request-ID Retry-After Location Content-Disposition".split()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app over a running Triton (`settings.triton_url`); `serve` starts the embedded one.

    Raises:
        ConfigurationError: no Triton is named.
    """
    settings = settings or load_settings()
    triton_url = settings.triton_url
    if triton_url is None:
        raise ConfigurationError(
            "TRITON_URL is not set. Start the service with ./dev.sh serve or poetry run start: "
            "they run the embedded Triton and set it."
        )
    configure_logging(debug=settings.debug)
    tracing.configure(settings.otlp_endpoint)
    figures = Metrics()
    keys = _keys(settings)
    limits = _limits(settings, figures)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open_parts(settings, triton_url, figures) as parts:
            app.state.parts = parts
            try:
                yield
            finally:
                await limits.close()

    app: FastAPI = FastAPIOffline(
        title="voice-analytics",
        version=VERSION,
        description="Who spoke when, what they said, and how they sounded.",
        lifespan=lifespan,
        debug=False,
    )
    app.state.metrics = figures
    install_error_handlers(app)
    app.add_middleware(
        UploadLimit,
        max_bytes=settings.max_upload_bytes,
        of_path={"/audio/jobs": settings.max_job_upload_bytes},
    )
    app.add_middleware(RequestDeadline, max_s=settings.request_timeout)
    app.add_middleware(
        Access,
        keys=keys,
        limits=limits,
        origins=settings.allowed_origins,
        any_host=settings.allow_anonymous,
        metrics=figures,
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestContext, metrics=figures)
    for endpoint in (
        page,
        audio,
        analyses,
        jobs,
        speakers,
        stream,
        openai,
        models,
        health,
        metrics,
    ):
        app.include_router(endpoint.router)
    app.mount("/static", page.files, name="page")
    document.complete(app)
    return app


@contextlib.asynccontextmanager
async def _open_parts(
    settings: Settings, triton_url: str, figures: Metrics
) -> AsyncIterator[AppState]:
    """The composition root: opens everything in order, closes it in reverse."""
    repository = settings.repository_dir.resolve()
    async with contextlib.AsyncExitStack() as stack:
        database = await _open_database(stack, settings)
        serving = Serving(await stable_models(database, repository), figures)
        figures.describe_models(serving.stable.releases)
        for name, release in serving.stable.releases.items():
            if release.bundled:
                log.warning("bundled_checkpoint", model=name, note=BUNDLED_NOTE)
        executor = stack.enter_context(ThreadPoolExecutor(thread_name_prefix="audio"))
        triton = TritonClient(triton_url, figures, serving.called)
        stack.push_async_callback(triton.close)
        monitor = HealthMonitor(
            triton_url,
            settings.watchdog_interval,
            lambda: serving.stable.versions,
            figures.models_looked_at,
        )
        await stack.enter_async_context(monitor.running())
        cache = _open_cache(settings, figures)
        stack.push_async_callback(cache.close)
        store, profiles = AnalysisStore(database), ProfileStore(database)
        detector = VoiceActivityDetector()
        rollouts = await stack.enter_async_context(
            open_rollouts(
                RolloutParts(
                    database=database,
                    repository=repository,
                    triton=triton,
                    serving=serving,
                    detector=detector,
                    executor=executor,
                    figures=figures,
                    golden_folder=settings.golden_recordings or PROJECT_ROOT / "samples",
                )
            )
        )
        service = AnalysisService(
            Pipeline(triton, detector, serving, executor, cache, profiles),
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
            detector=detector,
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


async def _open_database(stack: contextlib.AsyncExitStack, settings: Settings) -> Database:
    database = Database(settings.analyses_url, timeout_s=settings.database_timeout)
    stack.push_async_callback(database.close)
    with contextlib.suppress(StoreUnavailable):  # said in the log; the first transaction retries
        await database.migrate()
    if settings.retention_days is not None:
        keeping = keep_for(AnalysisStore(database), settings.retention_days)
        stack.push_async_callback(_cancelled, asyncio.create_task(keeping))
    return database


def _keys(settings: Settings) -> KeyRing:
    return parse(settings.api_keys.get_secret_value() if settings.api_keys else "")


def _limits(settings: Settings, figures: Metrics) -> CallerLimits:
    redis = None
    if settings.redis_url is not None:
        redis = RedisCount(settings.redis_url, timeout_s=settings.redis_timeout)
    bounds = Bounds(settings.key_requests_per_minute or 0, settings.key_concurrent_requests or 0)
    return CallerLimits(bounds, settings.data_dir / "limits", figures, redis)


def check_exposure(settings: Settings) -> None:
    """Nobody is served to other machines by oversight.

    Raises:
        ConfigurationError: other machines reach HOST, and nothing says who may call.
    """
    if _keys(settings) or settings.allow_anonymous or settings.is_loopback:
        return
    raise ConfigurationError(
        f"HOST {settings.host} lets other machines call, and API_KEYS is empty. Make a key with "
        "`python -m api.keys new NAME`, or serve everybody with ALLOW_ANONYMOUS=true."
    )


async def _check_databases(settings: Settings) -> None:
    """Complain once and in one line, where each worker would do so for itself, again and again.

    Raises:
        ConfigurationError: a URL is wrong, or the database's schema isn't this release's.
    """
    async with contextlib.AsyncExitStack() as stack:
        await _open_database(stack, settings.model_copy(update={"retention_days": None}))
        stack.push_async_callback(_open_cache(settings, Metrics()).close)


async def _stable_versions(settings: Settings, repository: Path) -> Mapping[str, str]:
    async with contextlib.AsyncExitStack() as stack:
        once = settings.model_copy(update={"retention_days": None})
        database = await _open_database(stack, once)
        return (await stable_models(database, repository)).versions


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _open_cache(settings: Settings, figures: Metrics) -> StageCache:
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


@contextlib.contextmanager
def triton_for(settings: Settings) -> Iterator[Settings]:
    """A Triton for the block: the one that TRITON_URL names, else the embedded one, watched.

    The settings that come out name it, and so does the environment of processes started within.

    Raises:
        ConfigurationError: the embedded Triton can't be started.
    """
    repository = seed(settings.repository_dir)
    prepare_repository(repository, asyncio.run(_stable_versions(settings, repository)))
    if settings.triton_url is not None:
        yield settings
        return
    with embedded_triton(settings, repository) as server:
        os.environ["TRITON_URL"] = server.url
        try:
            yield settings.model_copy(update={"triton_url": server.url})
        finally:
            os.environ.pop("TRITON_URL", None)


@contextlib.contextmanager
def embedded_triton(settings: Settings, repository: Path) -> Iterator[EmbeddedTriton]:
    """The embedded Triton over a repository for the block, watched.

    Raises:
        ConfigurationError: it can't be started.
    """
    ports = Ports(
        settings.triton_http_port, settings.triton_grpc_port, settings.triton_metrics_port
    )
    server = EmbeddedTriton(
        repository,
        settings.data_dir / "triton",
        ports,
        settings.triton_host,
        settings.otlp_endpoint,
    )
    try:
        server.start()
        watchdog = Watchdog(server, repository, settings.watchdog_interval)
        watchdog.start()
        try:
            yield server
        finally:
            watchdog.stop()
    finally:
        server.stop()


def serve(settings: Settings, *, workers: int = 1, reload: bool = False) -> None:
    """Run Triton and the API until SIGINT or SIGTERM; what is in flight is finished first."""
    configure_logging(debug=settings.debug)
    check_exposure(settings)
    asyncio.run(_check_databases(settings))
    listening = bind(settings.host, settings.port, "PORT")
    port = listening.getsockname()[1]
    if workers > 1:  # in one process the figures are whole as they are
        api_metrics.share(settings.data_dir / "metrics")
    with contextlib.closing(listening), triton_for(settings):
        config = uvicorn.Config(
            "api.main:create_app",
            factory=True,
            host=settings.host,
            port=port,
            workers=workers,
            reload=reload,
            reload_dirs=[str(PROJECT_ROOT / "api")] if reload else None,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=WS_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=WS_PING_S,
            ws_ping_timeout=None,
            timeout_graceful_shutdown=round(settings.request_timeout),
        )
        log.info("serving", url=f"http://{settings.host}:{port}", workers=workers)
        server = uvicorn.Server(config)
        if reload:
            ChangeReload(config, target=server.run, sockets=[listening]).run()
        elif workers > 1:
            Multiprocess(config, sockets=[listening]).run()
        else:
            server.run(sockets=[listening])


def _run(work: Callable[[Settings], None]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until uvicorn takes over
    try:
        work(load_settings())
    except ConfigurationError as error:
        sys.exit(error.message)
    except KeyboardInterrupt:
        pass


def dev() -> None:
    """`poetry run dev`: one process, restarted when the code changes."""
    _run(lambda settings: serve(settings, reload=True))


def start() -> None:
    """`poetry run start`: WORKERS processes."""
    _run(lambda settings: serve(settings, workers=settings.workers))


def migrate() -> None:
    """`poetry run migrate`: bring the database's schema up to this release, and end."""
    _run(lambda settings: asyncio.run(_migrate(settings)))


async def _migrate(settings: Settings) -> None:
    configure_logging(debug=settings.debug)
    database = Database(settings.analyses_url, timeout_s=settings.database_timeout)
    try:
        await database.migrate()
    except StoreUnavailable as error:
        raise ConfigurationError(error.message) from error
    finally:
        await database.close()


def triton() -> None:
    """`poetry run triton`: the embedded Triton alone, for an API elsewhere."""
    _run(_serve_triton)


def _serve_triton(settings: Settings) -> None:
    configure_logging(debug=settings.debug)
    repository = seed(settings.repository_dir)
    prepare_repository(repository, model_config.establish(repository).versions)
    with embedded_triton(settings, repository):
        threading.Event().wait()
