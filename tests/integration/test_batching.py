"""A clip's answer doesn't depend on who shares its batch; and batches are really shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from api.priority import asked_again
from api.services import emotion, speaker_embedding, whisper
from api.services.windows import fill
from api.tensors import ModelSpec, Tensors
from api.triton import TritonClient, TritonControl
from api.types import SAMPLE_RATE_HZ, AnalysisOptions
from tests.conftest import Service
from tests.integration.audio_files import digits

OPTIONS = AnalysisOptions(language="en")
TIMEOUT_S = 60.0


@pytest.fixture
async def triton(service: Service) -> AsyncIterator[TritonClient]:
    client = TritonClient(f"127.0.0.1:{service.triton_port('grpc')}")
    yield client
    await client.close()


async def alone(triton: TritonClient, spec: ModelSpec, requests: list[Tensors]) -> list[Tensors]:
    return [await triton.infer(spec, request, timeout_s=TIMEOUT_S) for request in requests]


async def together(
    triton: TritonClient, spec: ModelSpec, requests: list[Tensors]
) -> tuple[list[Tensors], int]:
    """The answers to simultaneous requests, and the executions they took."""
    with TritonControl(triton.url) as control:
        before = control.executions(spec.name)
        answers = await asyncio.gather(
            *(triton.infer(spec, request, timeout_s=TIMEOUT_S) for request in requests)
        )
        return list(answers), control.executions(spec.name) - before


async def test_whisper_writes_the_same_tokens(triton: TritonClient) -> None:
    """Clips of different lengths share executions; none changes its neighbour's tokens."""
    requests = [whisper.encode(clip, OPTIONS) for clip in digits() * 3]
    expected = await alone(triton, whisper.SPEC, requests[: len(digits())])
    answers, executions = await together(triton, whisper.SPEC, requests)
    assert executions < len(requests)
    for number, answer in enumerate(answers):
        assert tokens(answer) == tokens(expected[number % len(expected)])


def tokens(answer: Tensors) -> list[list[int]]:
    content = orjson.loads(answer[whisper.TRANSCRIPT.name].reshape(-1)[0])
    return [segment["tokens"] for segment in content["segments"]]


@pytest.mark.parametrize(
    "spec, audio, output",
    [
        (emotion.SPEC, emotion.AUDIO.name, emotion.LOGITS.name),
        (speaker_embedding.SPEC, speaker_embedding.AUDIO.name, speaker_embedding.EMBEDDING.name),
    ],
)
async def test_leaves_answer_the_same_in_any_company(
    triton: TritonClient, spec: ModelSpec, audio: str, output: str
) -> None:
    requests: list[Tensors] = [
        {audio: fill(clip, length)[None, :]} for length in (24_000, 32_000) for clip in digits()
    ]
    expected = await alone(triton, spec, requests)
    # The tiny models answer faster than one client asks: a large batch keeps theirs busy meanwhile.
    large: Tensors = {audio: np.zeros((64, 10 * SAMPLE_RATE_HZ), dtype=np.float32)}
    busy = asyncio.create_task(triton.infer(spec, large, timeout_s=TIMEOUT_S))
    await asyncio.sleep(0.3)
    # Triton's batcher keeps the order and merges neighbours of one length only.
    crowd = [request for request in requests for _ in range(4)]
    answers, executions = await together(triton, spec, crowd)
    await busy
    assert executions < len(crowd)
    for number, answer in enumerate(answers):
        first = np.asarray(expected[number // 4][output], dtype=np.float32)[0]
        second = np.asarray(answer[output], dtype=np.float32)[0]
        assert cosine(first, second) >= 0.9999
        assert first.argmax() == second.argmax()


async def test_what_is_asked_again_comes_before_those_who_wait_for_the_first_time(
    triton: TritonClient,
) -> None:
    """Else a request whose version on trial failed waits through a whole queue twice."""
    request = whisper.encode(digits()[0], OPTIONS)
    answered: list[str] = []
    first_batch = asyncio.Event()

    async def ask(name: str) -> None:
        await triton.infer(whisper.SPEC, request, timeout_s=TIMEOUT_S)
        answered.append(name)
        first_batch.set()

    crowd = [asyncio.create_task(ask("first time")) for _ in range(40)]
    await first_batch.wait()
    with asked_again():
        urgent = asyncio.create_task(ask("again"))
    await asyncio.gather(urgent, *crowd)
    assert answered.index("again") <= 32  # one batch of 8 was under way, and the next may have been


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


async def test_a_bad_request_does_not_harm_its_batch(triton: TritonClient) -> None:
    """One caller's NaN or nonsense gets its own error; everybody else gets an answer."""
    good = whisper.encode(digits()[0], OPTIONS)
    silent_nan = np.full(16_000, np.nan, dtype=np.float32)
    bad: list[Tensors] = [
        whisper.encode(silent_nan, OPTIONS),
        whisper.encode(digits()[0], AnalysisOptions(language="tlh")),
        {**good, whisper.OPTIONS.name: np.array([[b"{"]], dtype=np.object_)},
    ]
    answers = await asyncio.gather(
        *(triton.infer(whisper.SPEC, r, timeout_s=TIMEOUT_S) for r in [good, *bad, good]),
        return_exceptions=True,
    )
    first, *refused, last = answers
    assert all(type(error).__name__ == "InvalidOption" for error in refused), refused
    assert isinstance(first, dict) and isinstance(last, dict)
    assert tokens(first) == tokens(last) != []
