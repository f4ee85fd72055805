"""A caller's bounds, counted by files over processes; Redis' side is in tests/integration."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from api.errors import RateLimited
from api.limits import WINDOW_S, Bounds, CallerLimits


class Figures:
    """Counts what the limits tell."""

    def __init__(self) -> None:
        self.limited: list[tuple[str, str]] = []
        self.failed: list[str] = []

    def rate_limited(self, caller: str, bound: str) -> None:
        self.limited.append((caller, bound))

    def limits_failed(self, kind: str) -> None:
        self.failed.append(kind)


def limits_of(folder: Path, per_minute: int = 0, concurrent: int = 0) -> CallerLimits:
    return CallerLimits(Bounds(per_minute, concurrent), folder, Figures())


async def ask(limits: CallerLimits, caller: str = "alice") -> bool:
    """Whether a short request is let in."""
    try:
        async with limits.admitted(caller):
            return True
    except RateLimited:
        return False


async def test_a_bucket_empties_and_fills_up(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, per_minute=240)
    let_in = sum([await ask(limits) for _ in range(300)])
    assert 240 <= let_in < 300  # four come back each second
    while await ask(limits):
        pass
    with pytest.raises(RateLimited) as caught:
        async with limits.admitted("alice"):
            pass
    assert caught.value.retry_after_s == 1
    assert caught.value.details == {"bound": "rate", "limit": 240}
    assert await ask(limits, "bob")
    await asyncio.sleep(2 * WINDOW_S / 240 + 0.05)
    assert [await ask(limits) for _ in range(2)] == [True, True]
    await limits.close()


async def test_retry_after_says_when_the_next_token_is_there(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, per_minute=2)
    assert [await ask(limits) for _ in range(3)] == [True, True, False]
    with pytest.raises(RateLimited) as caught:
        async with limits.admitted("alice"):
            pass
    assert 28 <= caught.value.retry_after_s <= 30
    await limits.close()


async def test_a_clock_that_was_set_back_locks_nobody_out_for_long(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, per_minute=60)
    assert await ask(limits)
    (tmp_path / "alice.rate").write_bytes(struct.pack("d", time.time() + 1e9))
    with pytest.raises(RateLimited) as caught:
        async with limits.admitted("alice"):
            pass
    assert caught.value.retry_after_s <= WINDOW_S / 60
    await limits.close()


async def test_so_many_in_flight_and_no_more(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, concurrent=3)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(limits.admitted("alice"))
        assert not await ask(limits)
        assert await ask(limits, "bob")
    assert await ask(limits)


async def test_a_refused_request_costs_no_token(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, per_minute=2, concurrent=1)
    async with limits.admitted("alice"):
        assert not any([await ask(limits) for _ in range(5)])
    assert await ask(limits)
    await limits.close()


async def test_a_request_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, concurrent=1)
    with pytest.raises(ZeroDivisionError):
        async with limits.admitted("alice"):
            raise ZeroDivisionError
    assert await ask(limits)
    assert len(os.listdir("/proc/self/fd")) < 1000


async def test_what_is_refused_is_counted_by_name(tmp_path: Path) -> None:
    figures = Figures()
    limits = CallerLimits(Bounds(1, 0), tmp_path, figures)
    await ask(limits)
    await ask(limits)
    assert figures.limited == [("alice", "rate")]
    await limits.close()


async def test_a_disk_that_takes_nothing_blocks_nobody(tmp_path: Path) -> None:
    (tmp_path / "limits").write_text("a file where the folder should be")
    figures = Figures()
    limits = CallerLimits(Bounds(1, 1), tmp_path / "limits", figures)
    assert await ask(limits) and await ask(limits)
    assert figures.failed == ["files", "files"]


def _hold(folder: Path, said: Connection) -> None:
    async def hold() -> None:
        async with limits_of(folder, concurrent=2).admitted("alice"):
            said.send("held")
            await asyncio.sleep(60)

    asyncio.run(hold())


async def test_places_are_shared_by_processes_and_freed_by_kill(tmp_path: Path) -> None:
    limits = limits_of(tmp_path, concurrent=2)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    other = spawn.Process(target=_hold, args=(tmp_path, there))
    other.start()
    assert here.recv() == "held"
    async with limits.admitted("alice"):
        assert not await ask(limits)
        os.kill(other.pid or 0, signal.SIGKILL)
        other.join()
        assert await ask(limits)


def _spend(folder: Path, times: int, said: Connection) -> None:
    async def spend() -> int:
        limits = limits_of(folder, per_minute=100)
        return sum([await ask(limits) for _ in range(times)])

    said.send(asyncio.run(spend()))


async def test_a_bucket_is_shared_by_processes(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        here, there = spawn.Pipe()
        process = spawn.Process(target=_spend, args=(tmp_path, 100, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    received: list[Callable[[], int]] = [pipe.recv for pipe in pipes]
    let_in = [await asyncio.to_thread(receive) for receive in received]
    for process in processes:
        process.join()
    assert 100 <= sum(let_in) < 150  # 200 if each had its own; the slower one may start late
