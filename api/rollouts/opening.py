"""How rollouts are opened: what serves at the start of a service, and each worker's part in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import structlog

from api import model_config
from api.cache import StageCache
from api.cache_memory import MemoryCache
from api.detection import Detectors
from api.errors import ConfigurationError, StoreUnavailable, UnusableRelease
from api.metrics import Metrics
from api.model_config import ServingFile
from api.pipeline import Pipeline
from api.rollouts.controller import Controller, served_models
from api.rollouts.follower import Follower
from api.rollouts.loading import Loader
from api.rollouts.operations import Rollouts
from api.rollouts.store import RolloutStore
from api.serving import ServedModels, Serving
from api.store.database import Database
from api.store.profiles import ProfileStore
from api.triton import TritonClient

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RolloutParts:
    """What rollouts need of a worker."""

    database: Database
    repository: Path
    triton: TritonClient
    serving: Serving
    detectors: Detectors
    executor: Executor
    figures: Metrics
    golden_folder: Path


async def stable_models(database: Database, repository: Path) -> ServedModels:
    """What serves: as the database says, else (it is away) as the repository does.

    At the very first start that is the newest version of each model.

    Raises:
        ConfigurationError: a version that serves isn't in the repository, or can't be used.
    """
    file = model_config.establish(repository)
    versions = file.versions
    try:
        store = RolloutStore(database, file.repository_id)
        await store.ensure(versions)
        versions = {m: s.version for m, s in (await store.state()).stable.items()}
    except StoreUnavailable as error:
        log.warning("serving_as_the_repository_says", reason=error.message)
    try:
        return served_models(repository, versions)
    except UnusableRelease as error:
        raise ConfigurationError(
            f"{error.message}. It serves, so put the folder back; "
            f"./dev.sh export verify --repository {repository} tells what else is wrong."
        ) from error


def prepare_repository(repository: Path, stable: Mapping[str, str]) -> None:
    """Before Triton starts: let it load the stable versions and nothing else.

    Raises:
        ConfigurationError: the repository can't be written.
    """
    file = model_config.establish(repository)
    try:
        model_config.write_serving(repository, ServingFile(file.repository_id, stable))
        model_config.serve_only(repository, stable)
    except OSError as error:
        raise ConfigurationError(
            f"The model repository {repository} can't be written: {error}"
        ) from error


@contextlib.asynccontextmanager
async def open_rollouts(parts: RolloutParts) -> AsyncIterator[Rollouts]:
    """Follow what the database says until the block ends, and carry rollouts out in turn."""
    repository_id = model_config.establish(parts.repository).repository_id
    store = RolloutStore(parts.database, repository_id)
    rollouts = Rollouts(store, parts.repository, parts.figures)
    loader = Loader(parts.repository, parts.triton.url)
    uncached = StageCache(MemoryCache(0, 1.0), parts.figures)
    pipeline = Pipeline(
        parts.triton,
        parts.detectors,
        parts.serving,
        parts.executor,
        uncached,
        ProfileStore(parts.database),
    )
    controller = Controller(rollouts, loader, pipeline, parts.golden_folder)
    follower = Follower(rollouts, parts.serving, controller, loader, parts.figures)
    async with follower.running():
        try:
            yield rollouts
        finally:
            await uncached.close()
