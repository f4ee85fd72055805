"""Memory, file descriptors and shared memory of the service, by what its processes do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SHARED: Final = Path("/dev/shm")
_GONE: Final = (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError)
_PREFIX: Final = re.compile(r"shm-region-prefix-name=(\S+)")


@dataclass(frozen=True)
class Usage:
    """One process at one moment.

    `own_bytes` is what it allocated, its share of what it has in common with other processes, and
    what of both was swapped out (`Pss_Anon` and `SwapPss` of proc(5)). Pages of files, programs and
    weights among them, aren't in it: the kernel takes them away and brings them back as it likes.
    """

    role: str
    pid: int
    own_bytes: int
    descriptors: int
    cpu_s: float


@dataclass(frozen=True)
class Sample:
    """The whole service at one moment of the run."""

    at_s: float
    processes: tuple[Usage, ...]
    regions: int
    region_bytes: int


class Meter:
    """Looks at a service from outside."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._prefix = self._region_prefix()

    def sample(self, at_s: float) -> Sample:
        """One look at everything."""
        usages = []
        for role, process in self.roles():
            with contextlib.suppress(*_GONE):
                own, times = own_bytes(process.pid), process.cpu_times()
                cpu_s = times.user + times.system
                usages.append(Usage(role, process.pid, own, process.num_fds(), cpu_s))
        sizes = self.regions()
        return Sample(at_s, tuple(usages), len(sizes), sum(sizes))

    def roles(self) -> Iterator[tuple[str, psutil.Process]]:
        """Every process of the service, and what it does."""
        yield "parent", self._root
        for process in self._root.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                role = _role(process)
                if role is not None:
                    yield role, process

    def of_role(self, role: str) -> list[psutil.Process]:
        """Processes whose role begins so, oldest first."""
        found = [process for name, process in self.roles() if name.startswith(role)]
        return sorted(found, key=lambda process: process.pid)

    def regions(self) -> list[int]:
        """Sizes of the server's regions of shared memory."""
        sizes = []
        for region in SHARED.glob(f"{self._prefix}*"):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(region.stat().st_blocks * 512)
        return sizes

    def _region_prefix(self) -> str:
        for process in self.of_role("triton"):
            found = _PREFIX.search(" ".join(process.cmdline()))
            if found is not None:
                return found[1]
        raise LookupError("the service has no tritonserver of its own")


def own_bytes(pid: int) -> int:
    """What a process holds of its own, see Usage.

    Raises:
        FileNotFoundError, ProcessLookupError: it is gone.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return 1024 * (kib["Pss_Anon"] + kib["SwapPss"])


def role_of(pid: int) -> str | None:
    """What a process of the service does; None where it is gone, or is somebody else's by now."""
    try:
        return _role(psutil.Process(pid))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _role(process: psutil.Process) -> str | None:
    """What a process does; None for a zombie, for one that is only just being started, and for
    Python's own trackers."""
    command = process.cmdline()
    if not command:
        return None
    program = Path(command[0]).name
    if program == "tritonserver":
        return "triton"
    if program == "triton_python_backend_stub" and len(command) > 1:
        return f"stub {Path(command[1]).parent.parent.name}"  # …/MODEL/VERSION/model.py
    if _is_forked(command):
        parent = process.parent()
        return "worker" if parent is not None and _is_forked(parent.cmdline()) else "fork server"
    return None


def _is_forked(command: list[str]) -> bool:
    """Whether it is a worker, or what they are forked from: both have the latter's command."""
    return "multiprocessing.forkserver" in " ".join(command)
