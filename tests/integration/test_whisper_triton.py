"""The `whisper` model inside the real Triton: one batch, and everybody's own answer or error."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from numpy.typing import NDArray

from api.settings import PROJECT_ROOT
from api.triton_server import EmbeddedTriton, Ports
from export.parity import sample_audio

Floats = NDArray[np.float32]
SAMPLES = sample_audio()
OPTIONS = b'{"temperatures": [0], "word_timestamps": true}'


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    folder = tmp_path_factory.mktemp("triton")
    repository = shutil.copytree(PROJECT_ROOT / "model_repository", folder / "repository")
    (repository / "voice_analytics" / "1").mkdir(exist_ok=True)
    server = EmbeddedTriton(Path(repository), folder / "work", Ports(0, 0, 0))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(triton: EmbeddedTriton) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(triton.url) as connected:
        yield connected


def ask(client: grpc.InferenceServerClient, audio: Floats, options: bytes = OPTIONS) -> Any:
    """The transcript, or the status code of the error."""
    clip = grpc.InferInput("AUDIO", [1, audio.size], "FP32")
    clip.set_data_from_numpy(audio[None])
    wanted = grpc.InferInput("OPTIONS", [1, 1], "BYTES")
    wanted.set_data_from_numpy(np.array([[options]], np.object_))
    try:
        result = client.infer("whisper", [clip, wanted], client_timeout=60)
    except grpc.InferenceServerException as error:
        return error.status()
    return json.loads(result.as_numpy("TRANSCRIPT").item())


def without_probabilities(answer: dict[str, Any]) -> list[Any]:
    return [
        (s["tokens"], [(w["word"], w["start"], w["end"]) for w in s["words"]])
        for s in answer["segments"]
    ]


def executions(client: grpc.InferenceServerClient) -> int:
    count: int = client.get_inference_statistics("whisper").model_stats[0].execution_count
    return count


def test_clips_of_other_lengths_share_executions_and_change_no_answer(
    client: grpc.InferenceServerClient,
) -> None:
    alone = [ask(client, audio) for audio in SAMPLES]
    before = executions(client)
    with ThreadPoolExecutor(2 * len(SAMPLES)) as pool:
        together = list(pool.map(lambda audio: ask(client, audio), 2 * SAMPLES))
    assert executions(client) - before < 2 * len(SAMPLES)
    for one, same in zip(2 * alone, together, strict=True):
        assert without_probabilities(one) == without_probabilities(same)


@pytest.mark.parametrize(
    ("audio", "options"),
    [
        (np.zeros(0, np.float32), OPTIONS),
        (np.zeros(480_001, np.float32), OPTIONS),
        (np.full(1_600, np.nan, np.float32), OPTIONS),
        (SAMPLES[0], b"{"),
        (SAMPLES[0], b'{"language": "xx"}'),
        (SAMPLES[0], b'{"beam_size": 99}'),
        (SAMPLES[0], b'{"beams": 5}'),
    ],
    ids=["empty", "too long", "not a number", "not JSON", "language", "beams", "unknown option"],
)
def test_a_bad_clip_fails_alone(
    client: grpc.InferenceServerClient, audio: Floats, options: bytes
) -> None:
    batch = [(SAMPLES[0], OPTIONS), (audio, options), (SAMPLES[1], OPTIONS)]
    with ThreadPoolExecutor(len(batch)) as pool:
        first, bad, last = pool.map(lambda one: ask(client, *one), batch)
    assert bad == "StatusCode.INVALID_ARGUMENT"
    assert first["language"] == last["language"] == "en"


def test_several_clips_in_one_request(client: grpc.InferenceServerClient) -> None:
    size = min(audio.size for audio in SAMPLES)
    clips = np.stack([audio[:size] for audio in SAMPLES[:3]])
    audio = grpc.InferInput("AUDIO", list(clips.shape), "FP32")
    audio.set_data_from_numpy(clips)
    options = grpc.InferInput("OPTIONS", [3, 1], "BYTES")
    options.set_data_from_numpy(np.array([[OPTIONS]] * 3, np.object_))
    answers = client.infer("whisper", [audio, options]).as_numpy("TRANSCRIPT")
    assert answers.shape == (3, 1)
    for clip, answer in zip(clips, answers[:, 0], strict=True):
        expected = without_probabilities(ask(client, clip))
        assert without_probabilities(json.loads(answer)) == expected


def test_errors_are_counted_as_what_they_are(
    triton: EmbeddedTriton, client: grpc.InferenceServerClient
) -> None:
    """Triton itself counts a request that was answered with its own error as a success."""
    before = outcomes(triton)
    ask(client, SAMPLES[0])
    ask(client, SAMPLES[0], b"{")
    after = outcomes(triton)
    assert after["transcribed"] == before["transcribed"] + 1
    assert after["invalid"] == before["invalid"] + 1


def outcomes(triton: EmbeddedTriton) -> dict[str, float]:
    url = f"http://127.0.0.1:{triton.ports.metrics}/metrics"
    with urllib.request.urlopen(url) as response:
        lines = response.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("whisper_requests_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in counts}
