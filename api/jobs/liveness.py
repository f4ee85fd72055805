"""Which workers are dead: those whose lock is free here, and those elsewhere that fell silent."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class WorkerLock:
    """A lock that this process holds for as long as it lives, whatever ends it."""

    def __init__(self, folder: Path, worker_id: str) -> None:
        """
        Raises:
            OSError: the folder can't be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / f"{worker_id}.lock"
        self._descriptor = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def dead(self) -> set[str]:
        """Workers of this folder that have died; known at once, without waiting for silence."""
        return {file.stem for file in self._folder.glob("*.lock") if _is_free(file)}

    def forget(self, worker_id: str) -> None:
        (self._folder / f"{worker_id}.lock").unlink(missing_ok=True)

    def release(self) -> None:
        self._file.unlink(missing_ok=True)
        os.close(self._descriptor)


def _is_free(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
