"""Recordings that wait for their job: files that survive a power cut, gone when the job has ended.

With workers on several machines the folder has to lie on storage that all of them share.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, TypeVar

from api.errors import StoreUnavailable

T = TypeVar("T")

_BLOCK_BYTES = 2**20

_UNCLAIMED_S = 3600.0
"""A file of which no job knows may belong to one that is just being accepted, but not for long."""


class Uploads:
    """One folder; a recording goes by its job's id."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            OSError: the folder can't be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.upload"

    async def keep(self, job_id: str, upload: BinaryIO) -> str:
        """Copy a recording from where it stands; its sha256. On return it is safely on the disk.

        Raises:
            StoreUnavailable: the disk is full or away.
        """
        return await asyncio.to_thread(_answering, lambda: self._keep(job_id, upload))

    async def remove(self, job_id: str) -> None:
        """
        Raises:
            StoreUnavailable: the disk is away.
        """
        await asyncio.to_thread(_answering, lambda: self.path(job_id).unlink(missing_ok=True))

    async def sweep(self, wanted: Collection[str]) -> int:
        """Delete what no job of these ids needs: left by whoever was killed; how many those were.

        Raises:
            StoreUnavailable: the disk is away.
        """
        return await asyncio.to_thread(_answering, lambda: self._sweep(wanted))

    def _keep(self, job_id: str, upload: BinaryIO) -> str:
        digest = hashlib.sha256()
        part = self.path(job_id).with_suffix(".part")
        try:
            with open(part, "wb") as file:
                while block := upload.read(_BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.path(job_id))
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, has to survive
        finally:
            os.close(folder)
        return digest.hexdigest()

    def _sweep(self, wanted: Collection[str]) -> int:
        old = time.time() - _UNCLAIMED_S
        unclaimed = [
            file
            for file in self._folder.iterdir()
            if file.suffix in (".upload", ".part")
            and file.stem not in wanted
            and file.stat().st_mtime < old
        ]
        for file in unclaimed:
            file.unlink(missing_ok=True)
        return len(unclaimed)


def _answering(work: Callable[[], T]) -> T:
    try:
        return work()
    except OSError as error:
        raise StoreUnavailable("The disk for uploads is full or away") from error
