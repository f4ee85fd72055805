"""Entry point: the app, and the processes around it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable

import structlog
import uvicorn
import uvicorn._subprocess
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from uvicorn.supervisors import ChangeReload, Multiprocess

from api import arenas, document
from api import metrics as api_metrics
from api import model_config, scheduling, tracing
from api.access import Access
from api.composition import open_cache, open_database, open_keys, open_limits, open_parts
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
from api.errors import ConfigurationError, StoreUnavailable
from api.headers import SecurityHeaders
from api.hosting import embedded_triton, triton_for
from api.logging import configure_logging
from api.metrics import Metrics
from api.middleware import RequestContext, UploadLimit, install_error_handlers
from api.repository import seed
from api.rollouts.opening import (
    prepare_repository,
)
from api.settings import PROJECT_ROOT, Settings, load_settings
from api.shutdown import end_with_parent
from api.store.database import Database
from api.triton_server import bind
from api.version import VERSION

log = structlog.get_logger(__name__)

WS_MESSAGE_BYTES = 2**20
"""Largest message of a live stream, 32 s of 16-bit audio; raw audio isn't worth compressing."""

WS_PING_S = 20.0
"""Pings keep proxies from closing a quiet connection. An unanswered one doesn't end it: while a
flood holds the socket back, its answers can't be read. STREAM_IDLE_SECONDS finds the dead."""

WORKER_SILENCE_S = 30
"""A worker that doesn't answer its supervisor for this long is killed, with all that it has in
hand. uvicorn's own 5 s are less than a machine at its limit makes a healthy one wait."""

SWITCH_INTERVAL_S = 0.001
"""How long a thread may keep the interpreter while others want it."""

_CORS_REQUEST_HEADERS = (
    "Authorization X-API-Key X-Request-ID X-Request-Timeout Idempotency-Key Last-Event-ID".split()
)
_CORS_ANSWER_HEADERS = "X-Request-ID Retry-After Location Content-Disposition".split()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app over a running Triton (`settings.triton_url`); `serve` starts the embedded one.

    Raises:
        ConfigurationError: no Triton is named.
    """
    arenas.keep_few()
    scheduling.one_core_a_call()
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
    keys = open_keys(settings)
    limits = open_limits(settings, figures)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        end_with_parent()
        async with open_parts(settings, triton_url, figures) as parts:
            app.state.parts = parts
            _settle()
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


def _settle() -> None:
    """Keep the event loop's waits short in this process from now on.

    What lives as long as the process, 230,000 objects, is taken out of the garbage collector's
    sight: a full collection held up everything for 0.15 s. And a thread that computes in Python
    hands the interpreter over after 1 ms, not after 5: with six of them the loop waited for 30.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def check_exposure(settings: Settings) -> None:
    """Nobody is served to other machines by oversight.

    Raises:
        ConfigurationError: other machines reach HOST, and nothing says who may call.
    """
    if open_keys(settings) or settings.allow_anonymous or settings.is_loopback:
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
        await open_database(stack, settings.model_copy(update={"retention_days": None}))
        stack.push_async_callback(open_cache(settings, Metrics()).close)


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
            timeout_worker_healthcheck=WORKER_SILENCE_S,
        )
        log.info("serving", url=f"http://{settings.host}:{port}", workers=workers)
        server = uvicorn.Server(config)
        if reload:
            ChangeReload(config, target=server.run, sockets=[listening]).run()
        elif workers > 1:
            _fork_workers()
            Multiprocess(config, sockets=[listening]).run()
        else:
            server.run(sockets=[listening])


def _fork_workers() -> None:
    """Have uvicorn fork workers from a process that has imported everything.

    One that starts from nothing, as uvicorn's do, computes for 2.6 s before it serves, and callers
    notice that while workers are replaced; a fork for 0.7 s, and it shares memory with the others.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    uvicorn._subprocess.spawn = context  # type: ignore[assignment]  # there is no setting for it


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
