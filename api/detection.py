"""What is heard without Triton: where anybody speaks, and where two speak at once; cached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass
from typing import Any, Final

from api import stages
from api.branches import Kept
from api.overlap import OVERLAP_RELEASE, OverlapDetector
from api.types import AnalysisOptions, Region, Waveform
from api.vad import VAD_RELEASE, VadSettings, VoiceActivityDetector, padded, trimmed

RELEASES: Final = {stages.VAD.name: VAD_RELEASE, stages.OVERLAP.name: OVERLAP_RELEASE}
"""The detectors' fingerprints, as a model's release has one."""


@dataclass(frozen=True)
class Detectors:
    """The networks; one pair serves a whole process."""

    speech: VoiceActivityDetector
    overlap: OverlapDetector


@dataclass(frozen=True)
class Speech:
    """Where speech lies: `regions` with some room for the models, `talk` without for counting."""

    regions: Sequence[Region]
    talk: Sequence[Region]


class Detection:
    """Runs the detectors in threads of `executor`, unless the cache knows what they would say."""

    def __init__(self, detectors: Detectors, executor: Executor) -> None:
        self._detectors = detectors
        self._executor = executor

    async def find_speech(self, kept: Kept, waveform: Waveform, options: AnalysisOptions) -> Speech:
        detector = self._detectors.speech
        settings: VadSettings = detector.settings.tuned(
            onset=options.speech_threshold,
            min_silence_s=options.min_silence_s,
            pad_start_s=options.pad_start_s,
        )
        detected = await kept.get(
            stages.VAD,
            astuple(settings),
            lambda: self._run(detector.detect, waveform, settings, kept.on_progress),
        )
        return Speech(padded(detected, waveform.duration_s, settings), trimmed(detected))

    async def find_overlaps(
        self, kept: Kept, waveform: Waveform, regions: Sequence[Region], options: AnalysisOptions
    ) -> Sequence[Region]:
        """Where two speak at once; nowhere, where the caller says that there is one speaker."""
        if 1 in (options.num_speakers, options.max_speakers):
            kept.on_progress(stages.OVERLAP.name, 1.0)
            return []
        detector = self._detectors.overlap
        spans = [(region.start, region.end) for region in regions]
        return await kept.get(
            stages.OVERLAP,
            [astuple(detector.settings), spans],
            lambda: self._run(detector.detect, waveform, regions, kept.on_progress),
        )

    async def _run(self, work: Callable[..., list[Region]], *args: Any) -> list[Region]:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)
