"""The emotion and speaker models at their true size: checkpoint → export → Triton → answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
from google.protobuf import text_format
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
from tritonclient.grpc import model_config_pb2

from api.services import emotion, speaker_embedding
from api.tensors import ModelSpec
from api.triton_server import EmbeddedTriton, Ports
from benchmarks import leaf_weights
from export import parity, publish, release
from export import speaker_embedding as speaker_export
from export.quiet import quiet
from export.types import SAMPLE_RATE_HZ, ExportOptions

Clip = NDArray[np.float32]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
"""Two exports of full-size networks come before the first test: minutes on two busy cores."""

WINDOW_S = {emotion.SPEC.name: 2.0, speaker_embedding.SPEC.name: 1.5}
SPECS = pytest.mark.parametrize(
    "spec", [emotion.SPEC, speaker_embedding.SPEC], ids=lambda spec: spec.name
)


@dataclass(frozen=True)
class Served:
    """A running Triton that serves full-size random leaves, and where their checkpoints lie."""

    triton: EmbeddedTriton
    checkpoints: dict[str, Path]

    def executions(self, model: str) -> tuple[int, int]:
        """How many inputs the served version of a model has answered, and in how many runs."""
        with grpc.InferenceServerClient(self.triton.url) as client:
            (statistics,) = client.get_inference_statistics(model).model_stats
        return statistics.inference_count, statistics.execution_count


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The committed repository with a newer version of both leaves: wav2vec2-base, ECAPA-1024."""
    folder = tmp_path_factory.mktemp("leaves")
    repository = folder / "models"
    publish.seed(repository)
    checkpoints = {
        "emotion": leaf_weights.write_emotion(folder / "wav2vec2-base"),
        "speaker_embedding": leaf_weights.write_speaker(folder / "ecapa-1024"),
    }
    for model in ("emotion", "speaker_embedding"):
        wanted = release.Release(model, str(checkpoints[model]), ExportOptions())
        release.make(wanted, repository, print)
    triton = EmbeddedTriton(repository, folder / "triton", Ports(0, 0, 0))
    try:
        triton.start()
        yield Served(triton, checkpoints)
    finally:
        triton.stop()


def windows(seconds: float, count: int) -> list[Clip]:
    """Windows of one length, all different, cut from the sample clips at different levels."""
    size = round(seconds * SAMPLE_RATE_HZ)
    clips = parity.sample_audio()
    return [
        np.roll(np.resize(clips[i % len(clips)], size), 997 * i) * np.float32(0.3 + 0.05 * i)
        for i in range(count)
    ]


def ask(served: Served, spec: ModelSpec, clips: list[Clip]) -> list[Clip]:
    """Sends every clip as a request of its own, all at once; an answer each, in order."""

    async def ask_all() -> list[Clip]:
        async with grpc_aio.InferenceServerClient(served.triton.url) as client:
            results = await asyncio.gather(
                *(client.infer(spec.name, [tensor("AUDIO", clip[None])]) for clip in clips)
            )
        return [result.as_numpy(spec.outputs[0].name)[0] for result in results]

    return asyncio.run(ask_all())


def tensor(name: str, array: NDArray[np.float32] | NDArray[np.object_]) -> grpc.InferInput:
    kind = "FP32" if array.dtype == np.float32 else "BYTES"
    made = grpc.InferInput(name, list(array.shape), kind)
    made.set_data_from_numpy(array)
    return made


def test_emotion_answers_as_transformers_does(served: Served) -> None:
    folder, clips = served.checkpoints["emotion"], windows(2.0, 3)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    with quiet():
        model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [
            model(**extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"))
            .logits[0]
            .numpy()
            for clip in clips
        ]

    parity.check(
        parity.compare(expected, ask(served, emotion.SPEC, clips)), parity.TOLERANCES["fp32"]
    )


def test_speaker_embedding_answers_as_speechbrain_does(served: Served) -> None:
    encoder, clips = speaker_export.load(served.checkpoints["speaker_embedding"]), windows(1.5, 3)

    expected = speaker_export.reference_embeddings(encoder, clips)

    answers = ask(served, speaker_embedding.SPEC, clips)
    parity.check(parity.compare(expected, answers), parity.TOLERANCES["fp32"])


@SPECS
def test_concurrent_windows_share_runs_and_dont_change_each_others_answers(
    served: Served, spec: ModelSpec
) -> None:
    clips = windows(WINDOW_S[spec.name], 12)
    alone = [ask(served, spec, [clip])[0] for clip in clips]
    answered, runs = served.executions(spec.name)

    together = ask(served, spec, clips)

    answered_after, runs_after = served.executions(spec.name)
    assert answered_after - answered == len(clips)
    assert runs_after - runs <= len(clips) // 2
    np.testing.assert_array_equal(together, alone)


@SPECS
def test_clips_of_other_lengths_in_flight_dont_matter(served: Served, spec: ModelSpec) -> None:
    clips = [*windows(1.0, 2), *windows(1.5, 2), *windows(2.5, 2)]
    alone = [ask(served, spec, [clip])[0] for clip in clips]

    together = ask(served, spec, clips)

    np.testing.assert_array_equal(together, alone)


@SPECS
def test_a_clip_too_short_for_the_model_fails_by_itself(served: Served, spec: ModelSpec) -> None:
    """A failure of the whole batch would take other callers' requests with it."""

    async def ask_mixed() -> list[object]:
        clips = [np.zeros(3, dtype=np.float32), *windows(WINDOW_S[spec.name], 3)]
        async with grpc_aio.InferenceServerClient(served.triton.url) as client:
            requests = [client.infer(spec.name, [tensor("AUDIO", clip[None])]) for clip in clips]
            return list(await asyncio.gather(*requests, return_exceptions=True))

    refused, *others = asyncio.run(ask_mixed())

    assert isinstance(refused, grpc.InferenceServerException)
    assert all(isinstance(answer, grpc_aio.InferResult) for answer in others)


def test_the_ensemble_answers_as_its_leaves_do(served: Served) -> None:
    (clip,), (heard,), (voice,) = windows(1.2, 1), windows(2.0, 1), windows(1.5, 1)
    with grpc.InferenceServerClient(served.triton.url) as client:
        result = client.infer(
            "voice_analytics",
            [
                tensor("AUDIO", clip[None]),
                tensor("OPTIONS", np.array([[b"{}"]], dtype=np.object_)),
                tensor("EMOTION_AUDIO", heard[None]),
                tensor("SPEAKER_AUDIO", voice[None]),
            ],
        )

    leaves = {emotion.SPEC: heard, speaker_embedding.SPEC: voice}
    for spec, window in leaves.items():
        (alone,) = ask(served, spec, [window])
        answer = result.as_numpy(spec.outputs[0].name)[0]
        assert parity.compare([alone], [answer]).min_cosine >= 0.9999
    assert result.as_numpy("TRANSCRIPT").shape == (1, 1)


def test_triton_completes_the_configs_with_nothing_that_contradicts_them(served: Served) -> None:
    """Triton fills in what a config leaves out; what is in it must come back as it was written."""
    with grpc.InferenceServerClient(served.triton.url) as client:
        for model in ("emotion", "speaker_embedding", "whisper", "voice_analytics"):
            text = (publish.COMMITTED_REPOSITORY / model / "config.pbtxt").read_text()
            written = text_format.Parse(text, model_config_pb2.ModelConfig())
            loaded = client.get_model_config(model).config
            merged = model_config_pb2.ModelConfig()
            merged.CopyFrom(loaded)
            assert (merged.max_batch_size, merged.backend) == (
                written.max_batch_size,
                written.backend,
            )
            assert list(merged.input) == list(written.input)
            assert list(merged.output) == list(written.output)
