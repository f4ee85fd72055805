"""The end of a process: who hears of it before connections end, and who ends with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2)"""


@contextlib.contextmanager
def shutdown_event() -> Iterator[asyncio.Event]:
    """Set as soon as SIGTERM or SIGINT arrives; the handler that was there is called as before.

    uvicorn waits for open answers before it ends the lifespan, so one that lasts until the client
    leaves, such as an event stream, would hold up every restart.
    """
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield event  # a test's app; signals reach the main thread only
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def heard(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(event.set)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, heard)
    try:
        yield event
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is heard:
                signal.signal(number, handler)


def end_with_parent() -> None:
    """Have this worker end as by SIGTERM when the service's process is killed, or the one that it
    was forked from.

    An orphan would go on taking requests, and carrying rollouts out, over a Triton that ends with
    the next start of the service; or beside the workers that took its place.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def orphaned() -> None:
        loop.remove_reader(sentinel)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sentinel, orphaned)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
