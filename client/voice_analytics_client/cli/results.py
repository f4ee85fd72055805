"""A batch's results file: one JSON line for each recording, whatever interrupts the batch.

A line is written by a single call behind all others, so that the next one never runs into it; a
torn last line, which only a full disk or a killed machine can leave, is cut off at the next start.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

if sys.platform != "win32":
    import fcntl

SUCCEEDED, FAILED = "succeeded", "failed"


@dataclass(frozen=True)
class Line:
    """What the file says of one recording, and the bytes that say it."""

    path: str
    sha256: str
    status: str
    options: Mapping[str, Any]
    text: bytes


class Results:
    """The file, open for one batch at a time."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        """Open the file, or make it.

        Raises:
            click.UsageError: another batch writes it, it is something else, or its results were
                made with other options.
            OSError: it can't be read or written.
        """
        self._path = path
        self._options = dict(options)
        self._files = [_locked(path)]
        self._lines = {line.path: line for line in _read(path)}
        others = [line.options for line in self._lines.values() if line.options != self._options]
        if others:
            self.close()
            raise click.UsageError(
                f"{path} holds results of other options: {json.dumps(others[0])}. "
                "Name another file with --out."
            )

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []

    def has(self, recording: Path) -> bool:
        """Whether the recording, as it is now, was analysed."""
        line = self._lines.get(str(recording))
        if line is None or line.status != SUCCEEDED:
            return False
        try:
            return line.sha256 == sha256_of(recording)
        except OSError:  # it is gone: the batch will tell
            return False

    def forget(self, recordings: Iterable[Path]) -> None:
        """Drop what was said of recordings that are analysed anew, and a torn last line."""
        for recording in recordings:
            self._lines.pop(str(recording), None)
        kept = b"".join(line.text for line in self._lines.values())
        if kept == self._path.read_bytes():
            return
        draft = self._path.with_name(self._path.name + ".draft")
        draft.write_bytes(kept)
        self._files.append(_locked(draft))
        os.fsync(self._files[-1])
        draft.replace(self._path)

    def add(self, recording: Path, sha256: str, status: str, **facts: Any) -> None:
        """Write a line, for good.

        Raises:
            OSError: the disk is full; the file is as it was before.
        """
        content: dict[str, Any] = {"path": str(recording), "sha256": sha256, "status": status}
        content |= {"options": self._options, **facts}
        text = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        file = self._files[-1]
        size = os.fstat(file).st_size
        try:
            if os.write(file, text) != len(text):
                raise OSError(f"{self._path} can't be written: is the disk full?")
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise click.UsageError(f"Another batch is writing {path}") from error
    return file


def _read(path: Path) -> Iterable[Line]:
    """The whole lines of the file."""
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            content = json.loads(text)
            yield Line(
                path=content["path"],
                sha256=content["sha256"],
                status=content["status"],
                options=content["options"],
                text=text + b"\n",
            )
        except (ValueError, KeyError, TypeError) as error:
            raise click.UsageError(f"Line {number} of {path} isn't a batch's result") from error
