"""One Triton replica: requests wait, and are computed in batches by one instance.

The dynamic batcher takes up to `MAX_BATCH` of what waits as soon as the instance is free; with
fewer it waits until the oldest has waited `MAX_DELAY_S` (model_repository/whisper/config.pbtxt).
How long a batch takes is fitted to measured ones:

    seconds = start + by_request × requests + by_audio_s × requests × seconds of the longest

The longest counts for all: clips of a batch are padded to it, and its text is written to the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

MAX_BATCH: Final = 8
MAX_DELAY_S: Final = 0.005
CHUNK_S: Final = 30.0


@dataclass(frozen=True)
class BatchCost:
    """Seconds that a batch takes; all three are zero or more."""

    start_s: float
    by_request_s: float
    by_audio_s: float

    def seconds(self, requests: int, longest_s: float) -> float:
        """How long the instance computes."""
        return self.start_s + requests * (self.by_request_s + self.by_audio_s * longest_s)

    def stretched(self, factor: float) -> BatchCost:
        """The same on a slower machine."""
        return BatchCost(
            self.start_s * factor, self.by_request_s * factor, self.by_audio_s * factor
        )

    @classmethod
    def fitted(cls, measured: Iterable[tuple[int, float, float]]) -> BatchCost:
        """Least relative error over (requests, seconds of the longest, seconds computed).

        Relative, since a small batch's error of 50 ms is worth more than a large one's; none of the
        three is let go below zero, so that no batch can become free.
        """
        rows = np.asarray(list(measured), dtype=np.float64)
        sizes, longest_s = rows[:, 0], rows[:, 1]
        design = np.column_stack([np.ones(len(rows)), sizes, sizes * longest_s]) / rows[:, 2:]
        keep = [0, 1, 2]
        while True:
            found, *_ = np.linalg.lstsq(design[:, keep], np.ones(len(rows)), rcond=None)
            if (found >= 0).all():
                break
            keep.pop(int(np.argmin(found)))
        costs = dict(zip(keep, found, strict=True))
        return cls(*(float(costs.get(column, 0.0)) for column in range(3)))


@dataclass(frozen=True, eq=False)
class Waiting:
    """One chunk of a call in a replica's queue."""

    call: int
    since_s: float
    audio_s: float


@dataclass(eq=False)
class Replica:
    """One pod: when it is ready, when the API knows of it, what waits there, and its counters.

    `queue_s` and `compute_s` are summed over requests, as nv_inference_queue_duration_us and
    nv_inference_compute_infer_duration_us are: each request of a batch counts the whole batch.
    """

    ready_s: float
    known_s: float
    queue: deque[Waiting] = field(default_factory=deque)
    busy: bool = False
    leaving: bool = False
    queue_s: float = 0.0
    compute_s: float = 0.0
    requests: int = 0
    batches: int = 0

    def take(self, now_s: float, cost: BatchCost) -> tuple[list[Waiting], float]:
        """The next batch, and the seconds that it takes."""
        batch = [self.queue.popleft() for _ in range(min(MAX_BATCH, len(self.queue)))]
        seconds = cost.seconds(len(batch), max(w.audio_s for w in batch))
        self.busy = True
        self.queue_s += sum(now_s - w.since_s for w in batch)
        self.compute_s += seconds * len(batch)
        self.requests += len(batch)
        self.batches += 1
        return batch, seconds


def chunks(audio_s: float) -> list[float]:
    """A call's speech as Whisper gets it: pieces of at most 30 s."""
    whole = int(audio_s // CHUNK_S)
    rest = audio_s - whole * CHUNK_S
    return [CHUNK_S] * whole + ([rest] if rest > 0 else [])
