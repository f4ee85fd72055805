"""CPU time and memory of a server and of everything that it started."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psutil

INTERVAL_S: Final = 0.5


@dataclass(frozen=True)
class Usage:
    """What a tree of processes used during a run.

    Attributes:
        cpu_s: processor seconds by the program's name.
        peak_memory_bytes: the largest sum over processes, memory that several share counted once
            (proportional set size) where the system tells.
    """

    cpu_s: dict[str, float]
    peak_memory_bytes: int


class Meter:
    """Watches a process and its descendants, also those that start during the run."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._before = self._cpu()
        self._last = dict(self._before)
        self._peak_bytes = 0

    async def watch(self) -> None:
        """Samples until cancelled."""
        while True:
            await asyncio.to_thread(self.sample)  # 0.05 s for a few large processes
            await asyncio.sleep(INTERVAL_S)

    def sample(self) -> None:
        """One look at everybody's memory and processor time."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
        self._peak_bytes = max(self._peak_bytes, total)
        self._last |= self._cpu()

    def usage(self) -> Usage:
        """What was used since the meter was made."""
        self.sample()
        cpu_s: dict[str, float] = {}
        for (name, pid), seconds in self._last.items():
            spent = seconds - self._before.get((name, pid), 0.0)
            cpu_s[name] = cpu_s.get(name, 0.0) + spent
        return Usage({name: round(s, 3) for name, s in cpu_s.items()}, self._peak_bytes)

    def _cpu(self) -> dict[tuple[str, int], float]:
        found = {}
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found[process.name(), process.pid] = times.user + times.system
        return found

    def _tree(self) -> Iterator[psutil.Process]:
        yield self._root
        yield from self._root.children(recursive=True)
