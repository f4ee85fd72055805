"""Databases for the integration tests; without the programs these tests fail, they never skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.databases import PostgresServer, RedisServer, run_postgres, run_redis


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
