"""The processes of a running service, told apart by how they were started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil

from tests.conftest import Service


def workers(service: Service) -> list[psutil.Process]:
    """The API's worker processes: they answer requests and work on jobs."""
    forked = psutil.Process(service.process.pid).children(recursive=True)
    return [
        process
        for process in _started_with("multiprocessing.forkserver", forked)
        if process.ppid() != service.process.pid
    ]


def fork_server(service: Service) -> psutil.Process:
    """The process that workers are forked from."""
    children = psutil.Process(service.process.pid).children()
    (found,) = _started_with("multiprocessing.forkserver", children)
    return found


def stubs(service: Service) -> list[psutil.Process]:
    """The processes of Triton's models."""
    children = psutil.Process(service.triton_pid()).children(recursive=True)
    return _started_with("triton_python_backend_stub", children)


def stub_of(service: Service, model: str) -> psutil.Process:
    """The one process of a model."""
    (stub,) = [stub for stub in stubs(service) if f"/{model}/" in " ".join(stub.cmdline())]
    return stub


def _started_with(word: str, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those alive: one that was killed is still listed until its parent has waited for it."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # also psutil's for a zombie
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found
