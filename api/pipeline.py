"""THE path: a waveform becomes an analysis. REST, streams and jobs all come through here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any, Generic, Literal, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from api import stages
from api.assembly import Findings, assemble, to_source
from api.cache import Stage, StageCache, samples_digest, stage_key
from api.chunking import Chunk, chunks
from api.errors import InvalidOption
from api.repository import Manifest
from api.services import diarization, emotion, known_speakers, speaker_embedding, whisper
from api.services.clustering import DEFAULT_SAME_SPEAKER_COSINE, cluster
from api.services.emotion import HeardWindow
from api.services.known_speakers import Voice
from api.services.whisper import Transcript
from api.services.windows import Window, cover
from api.tensors import ModelSpec, Tensors
from api.triton import TritonClient
from api.types import (
    Analysis,
    AnalysisOptions,
    Region,
    Segment,
    Turn,
    VoiceReference,
    Waveform,
)
from api.vad import VAD_RELEASE, VadSettings, VoiceActivityDetector

T = TypeVar("T")

OnSegments = Callable[[Sequence[Segment]], None]
"""Is told each chunk's segments, in order, as soon as they and all before them are there; they have
the recording's times, but no speaker and no emotion yet."""

WINDOWS_PER_REQUEST = 16
"""The smallest max_batch_size that a leaf has on any target (TensorRT's plans); Triton's batcher
merges requests up to the 64 of the others."""

REQUESTS_IN_FLIGHT = 8
"""Of one analysis, so that a long recording leaves room for the others in Triton's queue."""


class Pipeline:
    """Owns nothing but the way; what it needs is handed in, opened and closed by the lifespan."""

    def __init__(
        self,
        triton: TritonClient,
        detector: VoiceActivityDetector,
        manifests: Mapping[str, Manifest],
        executor: Executor,
        cache: StageCache,
    ) -> None:
        self._triton = triton
        self._detector = detector
        self._executor = executor
        self._cache = cache
        self._fingerprints = {name: m.fingerprint for name, m in manifests.items()}
        self._fingerprints[stages.VAD.name] = VAD_RELEASE
        self._releases = {name: m.release for name, m in manifests.items()}
        self._labels: list[str] = manifests["emotion"].content["labels"]
        self._chunk_s = float(manifests["whisper"].content["chunk_s"])
        self._emotion_window_s = float(manifests["emotion"].content["window_s"])
        self._same_speaker_cosine = float(
            manifests["speaker_embedding"].content.get(
                "same_speaker_cosine", DEFAULT_SAME_SPEAKER_COSINE
            )
        )

    async def analyze(
        self,
        waveform: Waveform,
        options: AnalysisOptions,
        *,
        deadline: float,
        timings_ms: Mapping[str, float] | None = None,
        references: Sequence[VoiceReference] = (),
        on_segments: OnSegments | None = None,
    ) -> Analysis:
        """Find speech, then words, speakers and emotions at once, and put them together.

        Args:
            waveform: the whole recording.
            options: what the caller wants to know.
            deadline: on `time.monotonic`'s clock.
            timings_ms: what came before, by stage; ends up in the answer.
            references: speakers with these voices go by these names.
            on_segments: hears the words while the rest is still under way.

        Raises:
            ModelUnavailable, DeadlineExceeded, InvalidOption, InferenceError: see `api.triton`.
        """
        timings = dict(timings_ms or {})
        digest = await self._run(samples_digest, waveform.samples)
        kept = _Kept(self._cache, digest, self._fingerprints, deadline, timings)
        regions = await self._find_speech(kept, waveform, options)
        cut = await self._run(lambda: chunks(waveform, regions, max_s=self._chunk_s))
        branches = _Branches(self._triton, kept, deadline)

        def on_transcript(index: int, transcript: Transcript) -> None:
            if on_segments is not None:
                on_segments(to_source(transcript.segments, cut[index]))

        transcripts, turns, heard = await together(
            branches.transcribe(cut, options, on_transcript),
            self._diarize(branches, waveform, regions, options, references),
            self._hear_emotions(branches, waveform, regions, options),
        )
        found = Findings(regions, cut, transcripts, turns, heard, self._labels)
        with _timed(timings, "assembly"):
            analysis = assemble(uuid4().hex, waveform, options, found, self._releases, timings)
        return replace(analysis, cache=kept.outcomes)

    async def _find_speech(
        self, kept: _Kept, waveform: Waveform, options: AnalysisOptions
    ) -> Sequence[Region]:
        settings: VadSettings = self._detector.settings.tuned(
            onset=options.speech_threshold,
            min_silence_s=options.min_silence_s,
            pad_start_s=options.pad_start_s,
        )
        return await kept.get(
            stages.VAD,
            astuple(settings),
            lambda: self._run(self._detector.detect, waveform, settings),
        )

    async def _hear_voice(self, reference: VoiceReference, deadline: float) -> Voice:
        """The voice in a reference.

        Raises:
            InvalidOption: nobody speaks in it.
        """
        waveform = reference.waveform
        digest = await self._run(samples_digest, waveform.samples)
        kept = _Kept(self._cache, digest, self._fingerprints, deadline, {})
        regions = await self._find_speech(kept, waveform, AnalysisOptions())
        windows = diarization.windows(waveform.samples, regions)
        if not windows:
            raise InvalidOption("A speaker's reference holds no speech", speaker=reference.name)
        embeddings = await _Branches(self._triton, kept, deadline).embed(windows)
        return Voice.of(embeddings)

    async def _diarize(
        self,
        branches: _Branches,
        waveform: Waveform,
        regions: Sequence[Region],
        options: AnalysisOptions,
        references: Sequence[VoiceReference],
    ) -> Sequence[Turn]:
        voices = await together(*(self._hear_voice(r, branches.deadline) for r in references))
        windows = diarization.windows(waveform.samples, regions) if options.diarize else []
        if not windows:
            return []
        embeddings = await branches.embed(windows)
        with _timed(branches.kept.timings_ms, "clustering"):
            labels = await self._run(
                lambda: cluster(
                    embeddings,
                    num_speakers=options.num_speakers,
                    min_speakers=options.min_speakers,
                    max_speakers=options.max_speakers,
                    same_speaker_cosine=self._same_speaker_cosine,
                )
            )
            turns = await self._run(diarization.turns, windows, embeddings, labels, regions)
            known = {r.name: voice for r, voice in zip(references, voices, strict=True)}
            return known_speakers.recognise(
                turns, windows, embeddings, known, self._same_speaker_cosine
            )

    async def _hear_emotions(
        self,
        branches: _Branches,
        waveform: Waveform,
        regions: Sequence[Region],
        options: AnalysisOptions,
    ) -> Sequence[HeardWindow]:
        if not options.emotions:
            return []
        window_s = self._emotion_window_s
        windows = cover(waveform, regions, window_s=window_s, hop_s=window_s / 2)
        return await branches.hear(windows, len(self._labels))

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Run work that computes in a thread, never on the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


class _Kept:
    """One analysis' way to the cache: what it asked for, how long it took, what it found."""

    def __init__(
        self,
        cache: StageCache,
        digest: str,
        fingerprints: Mapping[str, str],
        deadline: float,
        timings_ms: dict[str, float],
    ) -> None:
        self._cache = cache
        self._digest = digest
        self._fingerprints = fingerprints
        self._deadline = deadline
        self.timings_ms = timings_ms
        self.outcomes: dict[str, Literal["hit", "miss"]] = {}

    async def get(self, stage: Stage[T], options: object, compute: Callable[[], Awaitable[T]]) -> T:
        key = stage_key(stage.name, self._digest, self._fingerprints[stage.name], options)
        with _timed(self.timings_ms, stage.name):
            found = await self._cache.get(stage, key, compute, deadline=self._deadline)
        self.outcomes[stage.name] = "hit" if found.is_hit else "miss"
        return found.value


class _Branches:
    """One analysis' requests to Triton: bounded in number, all under one deadline, all cached."""

    def __init__(self, triton: TritonClient, kept: _Kept, deadline: float) -> None:
        self._triton = triton
        self.deadline = deadline
        self.kept = kept

    async def transcribe(
        self,
        cut: Sequence[Chunk],
        options: AnalysisOptions,
        on_transcript: Callable[[int, Transcript], None],
    ) -> list[Transcript]:
        """One transcript a chunk; `on_transcript` is told each with its index, in order."""
        told = _InOrder(on_transcript)

        async def compute() -> list[Transcript]:
            tensors = [whisper.encode(chunk.samples, options) for chunk in cut]
            answers = await self._ask(
                whisper.SPEC, tensors, lambda i, answer: told.put(i, whisper.decode(answer))
            )
            return [whisper.decode(answer) for answer in answers]

        if not cut:
            return []
        about = [whisper.wanted(options), stages.chunk_layout(cut)]
        transcripts = await self.kept.get(stages.WHISPER, about, compute)
        for index, transcript in enumerate(transcripts):
            told.put(index, transcript)
        return transcripts

    async def embed(self, windows: Sequence[diarization.Window]) -> NDArray[np.float32]:
        """Embeddings of at least one window, shape (len(windows), dim)."""

        async def compute() -> NDArray[np.float32]:
            batches = _batches(windows)
            tensors = [speaker_embedding.encode(batch) for batch in batches]
            answers = await self._ask(speaker_embedding.SPEC, tensors)
            pairs = zip(answers, batches, strict=True)
            return np.concatenate([speaker_embedding.decode(a, batch) for a, batch in pairs])

        return await self.kept.get(stages.SPEAKER_EMBEDDING, stages.window_layout(windows), compute)

    async def hear(self, windows: Sequence[Window], num_labels: int) -> list[HeardWindow]:
        async def compute() -> NDArray[np.float32]:
            batches = _batches(windows)
            answers = await self._ask(emotion.SPEC, [emotion.encode(batch) for batch in batches])
            pairs = zip(answers, batches, strict=True)
            heard = [h for a, batch in pairs for h in emotion.decode(a, batch, num_labels)]
            return np.stack([h.probabilities for h in heard])

        if not windows:
            return []
        rows = await self.kept.get(stages.EMOTION, stages.window_layout(windows), compute)
        return [HeardWindow(w.start_s, w.end_s, p) for w, p in zip(windows, rows, strict=True)]

    async def _ask(
        self,
        spec: ModelSpec,
        requests: Sequence[Tensors],
        on_answer: Callable[[int, Tensors], None] | None = None,
    ) -> list[Tensors]:
        free = asyncio.Semaphore(REQUESTS_IN_FLIGHT)

        async def ask(index: int, tensors: Tensors) -> Tensors:
            async with free:
                left_s = self.deadline - time.monotonic()
                answer = await self._triton.infer(spec, tensors, timeout_s=left_s)
            if on_answer is not None:
                on_answer(index, answer)
            return answer

        return list(await together(*(ask(i, tensors) for i, tensors in enumerate(requests))))


class _InOrder(Generic[T]):
    """Tells of items in order of their index, each once, whatever order they come in."""

    def __init__(self, tell: Callable[[int, T], None]) -> None:
        self._tell = tell
        self._waiting: dict[int, T] = {}
        self._next = 0

    def put(self, index: int, item: T) -> None:
        """Tell of the item as soon as all before it are told of; one told of already is dropped."""
        if index >= self._next:
            self._waiting[index] = item
        while self._next in self._waiting:
            self._tell(self._next, self._waiting.pop(self._next))
            self._next += 1


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Await all; when one fails or the caller is cancelled, cancel the others and wait for them."""
    tasks = [asyncio.ensure_future(w) for w in work]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _batches(windows: Sequence[T]) -> list[Sequence[T]]:
    return [
        windows[first : first + WINDOWS_PER_REQUEST]
        for first in range(0, len(windows), WINDOWS_PER_REQUEST)
    ]


@contextmanager
def _timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings_ms[stage] = (time.perf_counter() - started) * 1000
