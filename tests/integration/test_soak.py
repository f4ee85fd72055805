"""A minute of the soak: PostgreSQL, Redis, and every kind of kill once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from api.settings import PROJECT_ROOT
from tests.conftest import environment
from tests.integration.databases import PostgresServer, RedisServer


def test_nothing_is_lost_or_different_whatever_is_killed(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    """tests/unit/test_soak.py holds that the judge would say so."""
    databases = {"DATABASE_URL": postgres.new_database(), "REDIS_URL": redis.url}
    command = [sys.executable, "-m", "benchmarks", "soak", "--out", str(tmp_path / "soak")]
    command += ["--minutes", "1", "--per-minute", "30", "--kill-every", "4", "--seed", "4"]
    done = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env=environment(tmp_path, WATCHDOG_INTERVAL="1", REDIS_TIMEOUT="2", **databases)
        | {"PYTHONPATH": str(PROJECT_ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak" / "soak.json").read_text())
    counts = found["counts"]
    assert set(counts["kills"]) == {"worker", "stub", "triton", "postgres", "redis"}
    assert found["stored"] == sum(route["answered"] for route in counts["routes"].values()) >= 28
    assert all(route["accepted"] == route["answered"] > 0 for route in counts["routes"].values())
    assert counts["rollouts"]["canary promoted"] >= 1
    assert (tmp_path / "soak" / "soak.png").stat().st_size > 10_000
