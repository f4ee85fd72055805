"""Samples of a recording, in memory while they are few, else in a file without a name.

float32 on disk as in memory, and not int16 at half the size: what the resampler gives is rounded
nowhere, so a recording's digest and its analysis are the same wherever its samples lie.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.errors import StoreUnavailable

_ITEM_BYTES = 4


class SampleFile:
    """float32 samples on disk; reads like a one-dimensional array of them, `file[first:last]`.

    The file has no name: whatever ends this process, its room on disk is free again. It is closed
    when nobody refers to it any more, so that no thread reads from a descriptor that is closed, or
    already another file's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """An empty one on the disk of `folder`, by default that of temporary files."""
        with tempfile.TemporaryFile(dir=folder) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._size_bytes = 0

    def __len__(self) -> int:
        return self._size_bytes // _ITEM_BYTES

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        first, last, _ = part.indices(len(self))
        samples = np.empty(max(0, last - first), np.float32)
        view = samples.view(np.uint8).data
        done = 0
        while done < len(view):
            got = os.preadv(self._descriptor, [view[done:]], first * _ITEM_BYTES + done)
            if got == 0:
                raise EOFError("The file of samples is shorter than it was")
            done += got
        return samples

    def append(self, samples: NDArray[np.float32]) -> None:
        """
        Raises:
            OSError: the disk is full.
        """
        view = np.ascontiguousarray(samples, np.float32).view(np.uint8).data
        while view:
            done = os.pwrite(self._descriptor, view, self._size_bytes)
            self._size_bytes += done
            view = view[done:]


class SampleCollector:
    """Takes a recording block by block; it lies in memory until it is longer than `most`."""

    def __init__(self, most: int, folder: Path | None = None) -> None:
        # Pages of this are only taken from the system once written to: a short one stays cheap.
        self._memory = np.empty(most, np.float32)
        self._folder = folder
        self._file: SampleFile | None = None
        self.count = 0

    def append(self, block: NDArray[np.float32]) -> None:
        """
        Raises:
            StoreUnavailable: the disk is full.
        """
        count = self.count + len(block)
        if self._file is None and count <= len(self._memory):
            self._memory[self.count : count] = block
        else:
            self._append_to_file(block)
        self.count = count

    def collected(self) -> NDArray[np.float32] | SampleFile:
        """All samples; nothing may be appended any more."""
        if self._file is not None:
            return self._file
        self._memory.resize(self.count, refcheck=False)
        return self._memory

    def _append_to_file(self, block: NDArray[np.float32]) -> None:
        try:
            if self._file is None:
                self._file = SampleFile(self._folder)
                self._file.append(self._memory[: self.count])
                self._memory = np.empty(0, np.float32)
            self._file.append(block)
        except OSError as error:
            raise StoreUnavailable("The disk has no room for the recording") from error
