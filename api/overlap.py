"""`Waveform` → where two people speak at once, with a small network of this repository's own.

`assets/overlap_16k.onnx` comes from `python -m export.training.overlap`; its model card beside it
says what it was trained on, and `docs/speakers.md` how often it is right. The network answers per
20 ms and hears 1.3 s to either side, so that a recording goes through it in blocks with that much
context, bounded in memory whatever its length, with equal answers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.networks import open_network
from api.spectrum import FRAME_SAMPLES, power_spectrum
from api.types import BLOCK_SAMPLES, SAMPLE_RATE_HZ, OnProgress, Region, Waveform, unheard

OVERLAP_RELEASE = "1"
"""Counts up with every other network, and when the code around it answers otherwise."""

_CONTEXT_FRAMES = 66
"""What the network hears to either side of a frame (`CONTEXT_S` of the recipe)."""

_BLOCK_FRAMES = 1500
"""Frames per call of the network: 30 s of audio."""

_SPEECH_LEVEL, _MAX_GAIN = 0.05, 100.0
"""Root mean square that the network is used to of speech (the recipe's `SPEECH_LEVEL`)."""


@dataclass(frozen=True)
class OverlapSettings:
    """When two people count as speaking at once; chosen by measurement, see `docs/speakers.md`."""

    onset: float = 0.9
    """Probability that an overlap must reach at some moment."""
    offset: float = 0.7
    """Probability below which it ends."""
    min_overlap_s: float = 0.2
    """Shorter overlaps are dropped: listeners hardly notice them either."""


class OverlapDetector:
    """Finds overlapping speech. Make one per process; every method may run in any thread."""

    def __init__(self, settings: OverlapSettings | None = None) -> None:
        self.settings = settings or OverlapSettings()
        self._session = open_network("overlap_16k.onnx")

    def detect(
        self, waveform: Waveform, regions: Sequence[Region], on_progress: OnProgress = unheard
    ) -> list[Region]:
        """Where two or more speak at once: regions in order, not touching each other.

        About 0.7 ms of one CPU core per second of audio.

        Args:
            waveform: the recording.
            regions: where anybody speaks, in order and without overlap.
            on_progress: hears of stage "overlap".
        """
        return overlaps(self.probabilities(waveform, regions, on_progress), self.settings)

    def probabilities(
        self, waveform: Waveform, regions: Sequence[Region], on_progress: OnProgress = unheard
    ) -> NDArray[np.float32]:
        """Probability of two voices at once per 20 ms; 0 in blocks of 30 s without speech.

        Returns:
            float32, shape (ceil(num_samples / 320),), in [0, 1]; the last frame is filled up.
        """
        found = np.zeros(-(-waveform.num_samples // FRAME_SAMPLES), np.float32)
        gain = _gain(waveform, regions)
        for first in range(0, len(found), _BLOCK_FRAMES):
            last = min(first + _BLOCK_FRAMES, len(found))
            if _is_spoken(first, last, regions):
                found[first:last] = self._hear(waveform, first, last, gain)
            on_progress("overlap", last / len(found))
        return found

    def _hear(
        self, waveform: Waveform, first: int, last: int, gain: np.float32
    ) -> NDArray[np.float32]:
        start = max(0, first - _CONTEXT_FRAMES)
        end = last + _CONTEXT_FRAMES
        samples = waveform.read(start * FRAME_SAMPLES, end * FRAME_SAMPLES) * gain
        power = power_spectrum(samples)
        heard: NDArray[np.float32] = self._session.run(["overlap"], {"power": power})[0]
        return heard[first - start : last - start]


def overlaps(
    probabilities: NDArray[np.float32], settings: OverlapSettings | None = None
) -> list[Region]:
    """Stretches above the offset that reach the onset and aren't too short.

    Args:
        probabilities: of two voices at once per 20 ms, shape (num_frames,).
    """
    settings = settings or OverlapSettings()
    above = np.concatenate(([False], probabilities >= settings.offset, [False]))
    edges = np.flatnonzero(np.diff(above)).reshape(-1, 2)
    shortest = settings.min_overlap_s * SAMPLE_RATE_HZ / FRAME_SAMPLES
    frame_s = FRAME_SAMPLES / SAMPLE_RATE_HZ
    return [
        Region(first * frame_s, last * frame_s)
        for first, last in edges.tolist()
        if last - first >= shortest and probabilities[first:last].max() >= settings.onset
    ]


def _is_spoken(first: int, last: int, regions: Sequence[Region]) -> bool:
    """Whether there is speech in frames `first` up to `last`."""
    frame_s = FRAME_SAMPLES / SAMPLE_RATE_HZ
    after = bisect_right(regions, first * frame_s, key=lambda region: region.end)
    return after < len(regions) and regions[after].start < last * frame_s


def _gain(waveform: Waveform, regions: Sequence[Region]) -> np.float32:
    """Factor that brings speech to the level that the network was trained at."""
    energy, num_samples = 0.0, 0
    for region in regions:
        end = round(region.end * SAMPLE_RATE_HZ)
        for first in range(round(region.start * SAMPLE_RATE_HZ), end, BLOCK_SAMPLES):
            samples = waveform.read(first, min(end, first + BLOCK_SAMPLES))
            energy += float(np.square(samples, dtype=np.float64).sum())
            num_samples += len(samples)
    level = np.sqrt(energy / max(1, num_samples))
    return np.float32(min(_SPEECH_LEVEL / max(level, 1e-9), _MAX_GAIN))
