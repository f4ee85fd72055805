"""What a recording sounds like before anybody understands it: level, noise, clipping, its outline.

One pass over the samples, block by block, keeps one number per 10 ms (100 ms for loudness): 4 hours
take 13 MB, however they are stored. Everything here is a power relative to full scale, where a
sample of 1 is full scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.loudness import LOUDNESS_FRAME_SAMPLES, KWeighting
from api.types import SAMPLE_RATE_HZ, Region

FRAME_SAMPLES = 160
FRAMES_PER_S = SAMPLE_RATE_HZ // FRAME_SAMPLES

FULL_SCALE = 0.985
"""A sample from here up is at full scale. Resampling tilts flat tops: of speech that was clipped at
44.1 kHz the tops then reach 0.98 to 1; at 16 kHz they are 1 exactly."""

MIN_CLIPPED_RUN = 3
"""Samples at full scale in a row that are clipping; one or two are a peak that just fits."""

_QUANTISATION_NOISE = (1 / 32768) ** 2 / 12
"""Power of 16-bit rounding (a step's square over 12): no recording of 16 bits has less noise."""

MIN_NOISE_S = 0.3
"""Less than this without speech says nothing about noise."""

_NOISE_FRAMES = 10
_QUIETEST_SHARE = 0.05
"""Where speech leaves no pause, its own quietest frames stand for the noise."""


@dataclass(frozen=True)
class Sound:
    """Figures of a whole recording, in order of time.

    Attributes:
        power: mean square per 10 ms, float32, shape (num_samples // 160,).
        peaks: largest absolute sample per 10 ms, float32, shape (ceil(num_samples / 160),).
        weighted: K-weighted mean square per 100 ms, float32, shape (num_samples // 1600,).
        clipped_samples: how many samples lie in runs at full scale.
        num_samples: length of the recording.
    """

    power: NDArray[np.float32]
    peaks: NDArray[np.float32]
    weighted: NDArray[np.float32]
    clipped_samples: int
    num_samples: int

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE_HZ

    @property
    def clipped_share(self) -> float:
        return self.clipped_samples / self.num_samples if self.num_samples else 0.0

    def envelope(self, num_points: int) -> tuple[float, ...]:
        """The waveform's outline: at most `num_points` peaks of equally long stretches."""
        if len(self.peaks) == 0:
            return ()
        edges = np.linspace(0, len(self.peaks), min(num_points, len(self.peaks)) + 1)
        highest = np.maximum.reduceat(self.peaks, edges[:-1].astype(np.int64))
        return tuple(np.round(highest.astype(np.float64), 3).tolist())

    def snr_db(self, regions: Sequence[Region]) -> float | None:
        """Signal-to-noise ratio: speech's power over the power in between, in decibels.

        The noise is the median power of 100 ms outside the speech regions, so that a bang or an
        overheard word there counts for little; inside them lies speech and noise, so that the noise
        is taken off. Without pauses to measure it in, the regions' own quietest frames are taken
        for the noise. None without speech.
        """
        speaking = np.zeros(len(self.power), bool)
        for region in regions:
            speaking[round(region.start * FRAMES_PER_S) : round(region.end * FRAMES_PER_S)] = True
        heard, rest = self.power[speaking], self.power[~speaking]
        if len(heard) == 0:
            return None
        if len(rest) < MIN_NOISE_S * FRAMES_PER_S:
            rest = np.sort(heard)[: max(1, round(_QUIETEST_SHARE * len(heard)))]
        steps = np.arange(0, len(rest), _NOISE_FRAMES)
        powers = np.add.reduceat(rest, steps, dtype=np.float64) / np.diff([*steps, len(rest)])
        noise = max(float(np.median(powers)), _QUANTISATION_NOISE)
        speech = max(float(heard.mean(dtype=np.float64)) - noise, _QUANTISATION_NOISE)
        return float(10 * np.log10(speech / noise))


def measure(blocks: Iterable[NDArray[np.float32]]) -> Sound:
    """Listen to a recording once.

    Args:
        blocks: the recording in order, each float32, shape (n,), in [-1, 1], 16 kHz, of any length.
    """
    weighting, clipping = KWeighting(), _Clipping()
    rows: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = []
    rest = np.zeros(0, np.float32)
    num_samples = 0
    for block in blocks:
        num_samples += len(block)
        clipping.push(block)
        joined = np.concatenate((rest, block))
        whole = len(joined) - len(joined) % LOUDNESS_FRAME_SAMPLES
        rest = joined[whole:]
        if whole:
            rows.append(_frames(joined[:whole], weighting))
    tail = np.pad(rest, (0, LOUDNESS_FRAME_SAMPLES - len(rest)))  # never empty; cut off below
    rows.append(_frames(tail, weighting))
    power, peaks, weighted = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Sound(
        power=power[: num_samples // FRAME_SAMPLES],
        peaks=peaks[: -(-num_samples // FRAME_SAMPLES)],
        weighted=weighted[: num_samples // LOUDNESS_FRAME_SAMPLES],
        clipped_samples=clipping.finish(),
        num_samples=num_samples,
    )


def _frames(
    samples: NDArray[np.float32], weighting: KWeighting
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Power and peaks per 10 ms and weighted power per 100 ms of whole frames."""
    frames = samples.reshape(-1, FRAME_SAMPLES)
    power = np.square(frames).mean(axis=1, dtype=np.float32)
    return power, np.abs(frames).max(axis=1, initial=0.0), weighting.push(samples)


class _Clipping:
    """Counts samples in runs at full scale; a run may go on from one block to the next."""

    def __init__(self) -> None:
        self._count = 0
        self._run = 0

    def push(self, block: NDArray[np.float32]) -> None:
        full = np.concatenate(([False], np.abs(block) >= FULL_SCALE, [False])).astype(np.int8)
        edges = np.diff(full)
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        lengths = ends - starts
        if len(starts) and starts[0] == 0:
            lengths[0] += self._run
        else:
            self._end(self._run)
        goes_on = len(ends) > 0 and ends[-1] == len(block)
        self._run = int(lengths[-1]) if goes_on else 0
        finished = lengths[:-1] if goes_on else lengths
        self._count += int(finished[finished >= MIN_CLIPPED_RUN].sum())

    def finish(self) -> int:
        """How many samples were clipped."""
        self._end(self._run)
        self._run = 0
        return self._count

    def _end(self, run: int) -> None:
        if run >= MIN_CLIPPED_RUN:
            self._count += run
