"""Puts an hour of mixed load on the service of this checkout while its processes are killed.

Analyses, live streams and jobs come at a constant rate, a canary of `emotion` comes and goes, and
workers, Triton's model processes, Triton itself, and connections to PostgreSQL and Redis (where
DATABASE_URL and REDIS_URL name them) end at seeded moments. Afterwards: is everything that was
accepted there, is every answer that of a quiet run, has anything grown? The exit status is 0 if so,
1 if not, 130 after Ctrl-C, which ends the run early and still judges what there is.

  python -m benchmarks soak --minutes 60 --out soak
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import tempfile
from datetime import datetime
from pathlib import Path

from benchmarks.errors import UsageError
from benchmarks.rollouts import Service, running
from benchmarks.soak.report import write
from benchmarks.soak.run import Plan, Soak

WORKERS = 2
CACHE_BYTES = 2**20
"""So small that it is full within minutes: what it would still take later isn't a leak."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--minutes", type=float, default=60.0)
    add("--per-minute", type=float, default=12.0, help="recordings, of all kinds (default 12)")
    add("--kill-every", type=float, metavar="S", help="mean pause (default: a 15th of the run)")
    add("--seed", type=int, default=1)
    add(
        "--out",
        type=Path,
        default=Path("soak"),
        metavar="DIR",
        help="JSON, Markdown and PNG; with faults also the logs (default ./soak)",
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    seconds = parsed.minutes * 60
    if seconds <= 0 or parsed.per_minute <= 0:
        raise UsageError("--minutes and --per-minute must be above 0")
    plan = Plan(
        seconds=seconds,
        per_minute=parsed.per_minute,
        kill_every_s=parsed.kill_every or max(5.0, seconds / 15),
        rollout_every_s=max(20.0, seconds / 6),
        sample_every_s=min(10.0, seconds / 60),
        warm_s=min(600.0, seconds / 5),
        seed=parsed.seed,
    )
    settings = {"CACHE_MEMORY_BYTES": str(CACHE_BYTES)}
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with running(folder, WORKERS, settings) as service:
            soak = asyncio.run(_soak(service, plan))
        results = soak.results()
        path = write(results, parsed.out)
        if results["faults"]:
            for log in (folder / "service.log", folder / "triton" / "tritonserver.log"):
                shutil.copy(log, parsed.out)
    for fault in results["faults"]:
        print(f"{fault['kind']} at {fault['at_s']:.0f} s: {fault['what']}")
    print(path)
    if soak.interrupted:
        return 130
    return 0 if results["passed"] else 1


async def _soak(service: Service, plan: Plan) -> Soak:
    soak = Soak(service, plan, _say)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        soak.interrupt()
        loop.remove_signal_handler(signal.SIGINT)  # a second one ends it at once

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, interrupt)
    await soak.run()
    return soak


def _say(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
