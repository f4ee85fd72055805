"""What was asked in vain comes before what is asked for the first time: it has waited already.

A request whose version on trial failed, or whose Triton died, would else wait through a whole queue
twice, and be the slowest answer of all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

FIRST: Final = 1
USUAL: Final = 2
"""Levels of Triton's queues; `export/configs.py` declares them."""

_level: ContextVar[int] = ContextVar("priority", default=USUAL)


def level() -> int:
    """The level of what is asked here."""
    return _level.get()


@contextlib.contextmanager
def asked_again() -> Iterator[None]:
    """What the block asks of models, it asks again."""
    token = _level.set(FIRST)
    try:
        yield
    finally:
        _level.reset(token)
