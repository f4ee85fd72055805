"""From an upload's bytes to its analysis: admission, deadline, decoding, the pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from api import audio, tracing
from api.errors import DeadlineExceeded, Overloaded
from api.metrics import Metrics
from api.pipeline import OnSegments, Pipeline
from api.serving import ServedModels
from api.speaker_profiles import SpeakerTake
from api.store.analyses import AnalysisStore
from api.types import Analysis, AnalysisOptions, OnProgress, VoiceReference, Waveform

T = TypeVar("T")


class AnalysisService:
    """Bounds the work in flight, so that a crowd gets a quick 429 and not a slow queue."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: AnalysisStore,
        executor: ThreadPoolExecutor,
        metrics: Metrics,
        *,
        max_in_flight: int,
        timeout_s: float,
        max_duration_s: float,
        recordings: Path,
    ) -> None:
        """`recordings`: where the samples of long recordings lie while they are analysed."""
        self._pipeline = pipeline
        self._store = store
        self._executor = executor
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._max_duration_s = max_duration_s
        self._recordings = recordings
        self._in_flight = 0

    async def analyze(
        self,
        data: bytes,
        options: AnalysisOptions,
        *,
        references: Sequence[VoiceReference] = (),
        on_segments: OnSegments | None = None,
    ) -> Analysis:
        """Decode and analyse one recording, and keep the analysis before it is answered.

        For `references` and `on_segments` see `Pipeline.analyze`.

        Raises:
            Overloaded: too many analyses are in flight.
            DeadlineExceeded: it took longer than a request may take.
            VoiceAnalyticsError: whatever `audio.decode`, `Pipeline.analyze` and
                `AnalysisStore.save` raise.
        """
        return await self._admit_analysis(
            self._decode_and_analyze(data, options, references, on_segments)
        )

    async def hear_voice(self, data: bytes) -> SpeakerTake:
        """Hear a recording of one voice, to know it again; the recording isn't kept.

        Raises:
            Overloaded, DeadlineExceeded: as `analyze`.
            VoiceAnalyticsError: whatever `audio.decode` and `Pipeline.hear_voice` raise.
        """

        async def hear() -> SpeakerTake:
            deadline = time.monotonic() + self._timeout_s
            waveform = await self.decode(data, max_duration_s=self._max_duration_s)
            return await self._pipeline.hear_voice(waveform, deadline=deadline)

        return await self._admit(hear())

    async def decode(self, data: bytes, *, max_duration_s: float) -> Waveform:
        """Decode a recording that goes along with another; raises as `audio.decode`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor,
            lambda: audio.decode(data, max_duration_s=max_duration_s, folder=self._recordings),
        )

    async def analyze_file(
        self,
        file: Path,
        options: AnalysisOptions,
        *,
        max_duration_s: float,
        timeout_s: float,
        on_progress: OnProgress,
    ) -> Analysis:
        """Decode and analyse a recording on disk; it is for the caller to keep the analysis.

        Not counted among the requests in flight: whoever calls this bounds it by other means.

        Raises:
            VoiceAnalyticsError: whatever `audio.decode` and `Pipeline.analyze` raise.
        """
        deadline = time.monotonic() + timeout_s
        started = time.perf_counter()
        waveform = await asyncio.get_running_loop().run_in_executor(
            self._executor,
            lambda: audio.decode(
                file,
                max_duration_s=max_duration_s,
                folder=self._recordings,
                on_progress=on_progress,
            ),
        )
        decode_ms = (time.perf_counter() - started) * 1000
        return await self._pipeline.analyze(
            waveform,
            options,
            deadline=deadline,
            timings_ms={"decode": decode_ms},
            on_progress=on_progress,
        )

    async def analyze_waveform(
        self, waveform: Waveform, options: AnalysisOptions, served: ServedModels
    ) -> Analysis:
        """Analyse a recording that is decoded already, by given releases; else as `analyze`."""
        deadline = time.monotonic() + self._timeout_s
        return await self._admit_analysis(
            self._analyze(waveform, options, deadline, {}, served=served)
        )

    async def _admit_analysis(self, work: Coroutine[Any, Any, Analysis]) -> Analysis:
        started = time.monotonic()
        analysis = await self._admit(work)
        took_s = time.monotonic() - started
        self._metrics.real_time_factor.observe(took_s / analysis.duration)
        return analysis

    async def _admit(self, work: Coroutine[Any, Any, T]) -> T:
        if self._in_flight >= self._max_in_flight:
            work.close()
            raise Overloaded("Too many analyses are in flight", limit=self._max_in_flight)
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            return await asyncio.wait_for(work, self._timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(
                "The analysis took too long", timeout_s=self._timeout_s
            ) from error
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    async def _decode_and_analyze(
        self,
        data: bytes,
        options: AnalysisOptions,
        references: Sequence[VoiceReference],
        on_segments: OnSegments | None,
    ) -> Analysis:
        deadline = time.monotonic() + self._timeout_s
        started = time.perf_counter()
        with tracing.span("decode"):
            waveform = await self.decode(data, max_duration_s=self._max_duration_s)
        decode_ms = (time.perf_counter() - started) * 1000
        return await self._analyze(
            waveform, options, deadline, {"decode": decode_ms}, references, on_segments
        )

    async def _analyze(
        self,
        waveform: Waveform,
        options: AnalysisOptions,
        deadline: float,
        timings_ms: Mapping[str, float],
        references: Sequence[VoiceReference] = (),
        on_segments: OnSegments | None = None,
        served: ServedModels | None = None,
    ) -> Analysis:
        analysis = await self._pipeline.analyze(
            waveform,
            options,
            deadline=deadline,
            timings_ms=timings_ms,
            references=references,
            on_segments=on_segments,
            served=served,
        )
        started = time.perf_counter()
        with tracing.span("store"):
            await self._store.save(analysis)
        self._metrics.stage_seconds.labels("store").observe(time.perf_counter() - started)
        self.count(analysis)
        return analysis

    def count(self, analysis: Analysis) -> None:
        """Put an analysis that is kept into the metrics."""
        self._metrics.audio_seconds.inc(analysis.duration)
        for stage, milliseconds in analysis.timings_ms.items():
            self._metrics.stage_seconds.labels(stage).observe(milliseconds / 1000)
        for flag in analysis.quality.flags:
            self._metrics.quality_flags.labels(flag).inc()
