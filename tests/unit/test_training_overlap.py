"""The recipe of the overlap detector, on made-up voices and a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from api.spectrum import power_spectrum
from export.training import overlap
from export.training.corpora import SAMPLE_RATE_HZ as RATE
from export.training.frame_network import FRAME_SAMPLES
from export.training.overlap_evaluation import frame_score
from export.training.overlap_mixtures import CONDITIONS, SPEECH_LEVEL, mix
from export.training.overlap_network import (
    CONTEXT_S,
    OverlapNetwork,
    TrainingPlan,
    train,
    write_onnx,
)
from export.training.speaker_voices import Takes
from tests.unit.test_training_speaker import buzz


@pytest.fixture(scope="module")
def voices() -> dict[str, Takes]:
    """Four made-up people in two made-up corpora, three takes each."""
    made = {"fsdd-ann": 110, "fsdd-bob": 180, "emodb-01": 140, "emodb-02": 90}
    return {
        name: [buzz(pitch * f, 1000 + 5 * pitch) for f in (0.95, 1.0, 1.05)]
        for name, pitch in made.items()
    }


def graph_answers(path: Path, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers: NDArray[np.float32] = session.run(["overlap"], {"power": power_spectrum(audio)})[0]
    return answers


class TestMixtures:
    def test_the_truth_is_in_the_samples(self, voices: dict[str, Takes]) -> None:
        rng = np.random.default_rng(0)
        loud: dict[int, list[float]] = {0: [], 1: [], 2: []}
        for _ in range(40):
            made = mix(voices, 100, rng, CONDITIONS["clean"])
            assert made.samples.shape == (100 * FRAME_SAMPLES,)
            assert made.samples.dtype == np.float32
            frames = np.abs(made.samples).reshape(100, -1).mean(axis=1)
            for count in loud:
                loud[count] += frames[made.voices == count].tolist()
        assert min(len(frames) for frames in loud.values()) > 200
        assert np.median(loud[0]) < 0.1 * np.median(loud[1])
        assert np.median(loud[1]) < np.median(loud[2])

    def test_one_voice_never_overlaps(self, voices: dict[str, Takes]) -> None:
        alone = {"fsdd-ann": voices["fsdd-ann"]}
        rng = np.random.default_rng(1)
        assert all(mix(alone, 200, rng).voices.max() <= 1 for _ in range(20))

    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_speech_has_about_the_level_that_serving_gives_it(
        self, voices: dict[str, Takes], condition: str
    ) -> None:
        rng = np.random.default_rng(2)
        levels = []
        for _ in range(20):
            made = mix(voices, 200, rng, CONDITIONS[condition])
            spoken = made.samples.reshape(200, -1)[made.voices > 0]
            levels.append(20 * np.log10(np.sqrt(np.mean(np.square(spoken))) / SPEECH_LEVEL))
        assert -9 < np.mean(levels) < 9


class TestNetwork:
    def test_a_seed_gives_the_same_weights_again(self, voices: dict[str, Takes]) -> None:
        plan = TrainingPlan(steps=2, seed=1, batch_size=2)
        first, again = train(voices, {}, plan), train(voices, {}, plan)
        for name, weights in first.state_dict().items():
            assert torch.equal(weights, again.state_dict()[name]), name

    def test_the_graph_answers_as_the_network(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = OverlapNetwork()
        write_onnx(network, tmp_path / "overlap.onnx")
        rng = np.random.default_rng(0)
        for num_frames in (1, 7, 300):
            audio = rng.standard_normal(num_frames * FRAME_SAMPLES).astype(np.float32) * 0.05
            np.testing.assert_allclose(
                graph_answers(tmp_path / "overlap.onnx", audio),
                network.probabilities(audio[None])[0],
                atol=1e-5,
            )
        assert (tmp_path / "overlap.onnx").stat().st_size < 2**20

    def test_it_hears_no_further_than_it_says(self) -> None:
        torch.manual_seed(0)
        network = OverlapNetwork()
        audio = np.random.default_rng(0).standard_normal((1, 10 * RATE)).astype(np.float32)
        changed = audio.copy()
        changed[:, : 4 * RATE] = 0
        before, after = network.probabilities(audio)[0], network.probabilities(changed)[0]
        differs = np.flatnonzero(np.abs(before - after) > 1e-6)
        assert differs.max() < (4 + CONTEXT_S) * RATE / FRAME_SAMPLES


def test_frame_scores() -> None:
    true = np.array([0, 1, 1, 1, 0, 0], bool)
    score = frame_score(np.array([0, 0, 1, 1, 1, 1], bool), true)
    assert score.precision == 0.5
    assert score.recall == pytest.approx(2 / 3)
    assert frame_score(np.zeros(6, bool), true).f1 == 0


def test_from_recordings_to_a_graph_and_its_report(
    voices: dict[str, Takes], tmp_path: Path
) -> None:
    fsdd, emodb = tmp_path / "fsdd", tmp_path / "emodb"
    fsdd.mkdir()
    emodb.mkdir()
    for take in range(3):
        for name in ("ann", "bob"):
            soundfile.write(fsdd / f"1_{name}_{take}.wav", voices[f"fsdd-{name}"][take], RATE)
        for name in ("01", "02"):
            path = emodb / f"{name}a01N{'abc'[take]}.wav"
            soundfile.write(path, voices[f"emodb-{name}"][take], RATE)
    out = tmp_path / "overlap.onnx"
    command = ["--fsdd", str(fsdd), "--emodb", str(emodb), "--out", str(out), "--steps", "1"]
    held_out = ["--hold-out-fsdd", "bob", "--hold-out-emodb", "02", "--clips", "3"]
    overlap.main([*command, *held_out, "--synthetic-voices", "0"])
    assert graph_answers(out, np.zeros(10 * FRAME_SAMPLES, np.float32)).shape == (10,)
    report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert report["held_out"] == ["fsdd-bob", "emodb-02"]
    assert set(report["conditions"]) == set(CONDITIONS)
    assert "telephone" in overlap.describe(report)
