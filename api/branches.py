"""One analysis' requests: from the cache, else from Triton; bounded, timed, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from api import language, stages, tracing
from api.cache import Stage, StageCache, stage_key
from api.chunking import Chunk
from api.services import emotion, speaker_embedding, whisper
from api.services.emotion import HeardWindow
from api.services.whisper import Transcript
from api.services.windows import Window
from api.serving import ServedModels
from api.tensors import ModelSpec, Tensors
from api.triton import TritonClient
from api.types import AnalysisOptions, OnProgress, unheard

T = TypeVar("T")

WINDOWS_PER_REQUEST = 16
"""The smallest max_batch_size that a leaf has on any target (TensorRT's plans); Triton's batcher
merges requests up to the 64 of the others."""

COPY_TIMEOUT_S = 60.0
"""For another version to answer what a caller has its answer to."""

Witness = Callable[[ServedModels, str, str, Any, Callable[[ServedModels], Awaitable[Any]]], None]
"""Sees each fresh answer of a leaf: the releases, the model, the recording's digest, the answer,
and a way to ask the same of other releases."""

REQUESTS_IN_FLIGHT = 8
"""Of one analysis, so that a long recording leaves room for the others in Triton's queue."""

LONGEST_REQUEST_S = 600.0
"""A job's deadline is hours away; a Triton that hangs is noticed before that."""


class Kept:
    """One analysis' way to the cache: what it asked for, how long it took, what it found."""

    def __init__(
        self,
        cache: StageCache,
        digest: str,
        fingerprints: Mapping[str, str],
        deadline: float,
        timings_ms: dict[str, float],
        on_progress: OnProgress = unheard,
    ) -> None:
        self._cache = cache
        self.digest = digest
        self._fingerprints = fingerprints
        self._deadline = deadline
        self.timings_ms = timings_ms
        self.on_progress = on_progress
        self.outcomes: dict[str, Literal["hit", "miss"]] = {}

    async def get(self, stage: Stage[T], options: object, compute: Callable[[], Awaitable[T]]) -> T:
        key = stage_key(stage.name, self.digest, self._fingerprints[stage.name], options)
        with timed(self.timings_ms, stage.name):
            found = await self._cache.get(stage, key, compute, deadline=self._deadline)
            tracing.note("cache", found.outcome)
        self.outcomes[stage.name] = "hit" if found.is_hit else "miss"
        self.on_progress(stage.name, 1.0)
        return found.value


class Branches:
    """One analysis' requests to Triton: bounded in number, all under one deadline, all cached."""

    def __init__(
        self,
        triton: TritonClient,
        served: ServedModels,
        kept: Kept,
        deadline: float,
        witness: Witness | None = None,
    ) -> None:
        self._triton = triton
        self._witness = witness
        self.served = served
        self.deadline = deadline
        self.kept = kept

    async def transcribe(
        self,
        cut: Sequence[Chunk],
        options: AnalysisOptions,
        on_transcript: Callable[[int, Transcript], None],
    ) -> list[Transcript]:
        """One transcript a chunk; `on_transcript` is told each with its index, in order.

        Which language a chunk is decoded in: see `api.language`.
        """
        told = _InOrder(on_transcript)

        def hear(index: int, answer: Tensors) -> None:
            transcript = whisper.decode(answer)
            if options.language or language.is_sure(cut[index], transcript):
                told.put(index, transcript)

        async def compute(by: Branches) -> list[Transcript]:
            transcripts = await by._decode(cut, options, hear if by is self else None)
            spoken = options.language or language.vote(cut, transcripts)
            if spoken is None:
                return transcripts
            again = language.outvoted(cut, transcripts, spoken)
            voted = replace(options, language=spoken)
            corrected = await by._decode([cut[index] for index in again], voted)
            for index, transcript in zip(again, corrected, strict=True):
                transcripts[index] = transcript
            return transcripts

        if not cut:
            return []
        about = [whisper.wanted(options), stages.chunk_layout(cut)]
        transcripts = await self._get(stages.WHISPER, about, compute)
        for index, transcript in enumerate(transcripts):
            told.put(index, transcript)
        return transcripts

    async def _decode(
        self,
        cut: Sequence[Chunk],
        options: AnalysisOptions,
        on_answer: Callable[[int, Tensors], None] | None = None,
    ) -> list[Transcript]:
        answers = await self._ask(
            whisper.SPEC, cut, lambda chunk: whisper.encode(chunk.samples, options), on_answer
        )
        return [whisper.decode(answer) for answer in answers]

    async def embed(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Embeddings of at least one window, shape (len(windows), dim)."""

        async def compute(by: Branches) -> NDArray[np.float32]:
            batches = _batches(windows)
            answers = await by._ask(speaker_embedding.SPEC, batches, speaker_embedding.encode)
            pairs = zip(answers, batches, strict=True)
            return np.concatenate([speaker_embedding.decode(a, batch) for a, batch in pairs])

        return await self._get(stages.SPEAKER_EMBEDDING, stages.window_layout(windows), compute)

    async def hear(self, windows: Sequence[Window]) -> list[HeardWindow]:
        async def compute(by: Branches) -> NDArray[np.float32]:
            batches = _batches(windows)
            answers = await by._ask(emotion.SPEC, batches, emotion.encode)
            pairs = zip(answers, batches, strict=True)
            num_labels = len(by.served.emotion_labels)
            heard = [h for a, batch in pairs for h in emotion.decode(a, batch, num_labels)]
            return np.stack([h.probabilities for h in heard])

        if not windows:
            return []
        rows = await self._get(stages.EMOTION, stages.window_layout(windows), compute)
        return [HeardWindow(w.start_s, w.end_s, p) for w, p in zip(windows, rows, strict=True)]

    async def _get(
        self, stage: Stage[T], options: object, compute: Callable[[Branches], Awaitable[T]]
    ) -> T:
        def by_others(served: ServedModels) -> Awaitable[T]:
            deadline = time.monotonic() + COPY_TIMEOUT_S
            return compute(Branches(self._triton, served, self.kept, deadline))

        answer = await self.kept.get(stage, options, lambda: compute(self))
        if self._witness is not None and self.kept.outcomes[stage.name] == "miss":
            self._witness(self.served, stage.name, self.kept.digest, answer, by_others)
        return answer

    async def _ask(
        self,
        spec: ModelSpec,
        items: Sequence[T],
        encode: Callable[[T], Tensors],
        on_answer: Callable[[int, Tensors], None] | None = None,
    ) -> list[Tensors]:
        """One answer an item; its tensors are made when it is its turn, for they may be many."""
        free = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
        version = self.served.version(spec.name)
        answered = 0

        async def ask(index: int, item: T) -> Tensors:
            nonlocal answered
            async with free:
                tensors = await asyncio.to_thread(encode, item)
                left_s = min(self.deadline - time.monotonic(), LONGEST_REQUEST_S)
                answer = await self._triton.infer(spec, tensors, version=version, timeout_s=left_s)
            answered += 1
            self.kept.on_progress(spec.name, answered / len(items))
            if on_answer is not None:
                on_answer(index, answer)
            return answer

        return list(await together(*(ask(i, item) for i, item in enumerate(items))))


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
def timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        with tracing.span(stage):
            yield
    finally:
        timings_ms[stage] = (time.perf_counter() - started) * 1000
