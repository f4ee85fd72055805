"""Databases for the integration tests; without the programs these tests fail, they never skip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.store.analyses import AnalysisStore
from api.store.database import Database
from tests.conftest import Service, run_service
from tests.integration.databases import PostgresServer, RedisServer, run_postgres, run_redis
from tests.rolling import Rolling


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests; each takes a `new_database()`."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of its own for each test, to be hurt."""
    with run_redis() as server:
        yield server


@dataclass(frozen=True)
class Production:
    """A service as in production: several workers, PostgreSQL, Redis."""

    service: Service
    redis: RedisServer


@pytest.fixture(scope="session")
def production(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    """For tests that leave it as they found it, Redis running."""
    with (
        run_redis() as redis,
        run_service(
            tmp_path_factory.mktemp("production"),
            WORKERS="2",
            DATABASE_URL=postgres.new_database(),
            REDIS_URL=redis.url,
            REDIS_TIMEOUT="2",  # a busy machine is no outage here
            WATCHDOG_INTERVAL="600",  # its canaries would be counted as inferences
        ) as service,
    ):
        yield Production(service, redis)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/analyses.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, timeout_s=5)
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> AnalysisStore:
    return AnalysisStore(database)


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolling]:
    """A service whose versions a module's tests roll out; each leaves version 1 behind."""
    folder = tmp_path_factory.mktemp("rolling")
    with run_service(folder, WORKERS="2", WATCHDOG_INTERVAL="2") as service:
        yield Rolling(service)
