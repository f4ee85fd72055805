"""Which Triton the API is served by: the one that is named, else an embedded one, watched."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from api.composition import open_database
from api.orphans import end_orphans
from api.repository import seed
from api.rollouts.opening import (
    prepare_repository,
    stable_models,
)
from api.settings import Settings
from api.triton_server import EmbeddedTriton, Ports, shared_memory_prefix
from api.watchdog import Watchdog


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
    work_dir = settings.data_dir / "triton"
    tidy = functools.partial(end_orphans, shared_memory_prefix(work_dir))
    server = EmbeddedTriton(
        repository,
        work_dir,
        ports,
        settings.triton_host,
        settings.otlp_endpoint,
    )
    try:
        server.start()
        tidy()
        watchdog = Watchdog(server, repository, settings.watchdog_interval, tidy)
        watchdog.start()
        try:
            yield server
        finally:
            watchdog.stop()
    finally:
        server.stop()
        tidy()


async def _stable_versions(settings: Settings, repository: Path) -> Mapping[str, str]:
    async with contextlib.AsyncExitStack() as stack:
        once = settings.model_copy(update={"retention_days": None})
        database = await open_database(stack, once)
        return (await stable_models(database, repository)).versions
