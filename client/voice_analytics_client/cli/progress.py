"""How far a batch is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from voice_analytics_client.cli.output import clock, note

LINE_EVERY_S = 10.0


class Tally:
    """Counts recordings, bytes and seconds of audio. The time left goes by bytes: how long a
    recording is only shows when it is decoded."""

    def __init__(self, count: int, size_bytes: int) -> None:
        self.count = count
        self.size_bytes = size_bytes
        self.done = self.failed = self.done_bytes = 0
        self.audio_s = 0.0
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def speed(self) -> float:
        """Seconds of audio analysed per second."""
        return self.audio_s / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Time left, in seconds; None before anything is done."""
        if not self.done_bytes:
            return None
        return self.elapsed_s * (self.size_bytes - self.done_bytes) / self.done_bytes

    def line(self) -> str:
        left = self.left_s
        parts = [
            f"{self.done} of {self.count}",
            *([f"{self.failed} failed"] if self.failed else []),
            f"{self.speed:.1f} audio-s/s",
            *([f"{clock(left)} left"] if left is not None and self.done < self.count else []),
        ]
        return " · ".join(parts)


class Display:
    """Shows a tally."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._bar: Progress | None = None
        self._next_line = LINE_EVERY_S

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        console = Console(stderr=True)
        if not console.is_terminal:
            yield
            return
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        with self._bar:
            self._task = self._bar.add_task(self._facts(), total=self.tally.size_bytes)
            yield

    def counted(self, *, size_bytes: int, audio_s: float, failed: bool) -> None:
        """One recording more is done."""
        tally = self.tally
        tally.done += 1
        tally.failed += failed
        tally.done_bytes += size_bytes
        tally.audio_s += audio_s
        if self._bar is not None:
            self._bar.update(self._task, advance=size_bytes, description=self._facts())
        elif tally.elapsed_s >= self._next_line:
            self._next_line = tally.elapsed_s + LINE_EVERY_S
            note(tally.line())

    def _facts(self) -> str:
        tally = self.tally
        failed = f" · {tally.failed} failed" if tally.failed else ""
        return f"{tally.done} of {tally.count}{failed} · {tally.speed:.1f} audio-s/s"
