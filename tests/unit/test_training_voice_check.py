"""The recipe of the voice check, on made-up voices and a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from api.spectrum import power_spectrum
from export.training import voice_check
from export.training.corpora import SAMPLE_RATE_HZ as RATE
from export.training.frame_network import FRAME_SAMPLES
from export.training.overlap_mixtures import SPEECH_LEVEL
from export.training.speaker_voices import Takes
from export.training.tunes import tune, wordless_sound
from export.training.voice_check_network import (
    CLIP_FRAMES,
    CONTEXT_S,
    TrainingPlan,
    VoiceCheck,
    speech,
    train,
    wordless,
    write_onnx,
)
from tests.unit.test_training_speaker import buzz


@pytest.fixture(scope="module")
def voices() -> dict[str, Takes]:
    """Two made-up people in two made-up corpora, three takes each."""
    made = {"fsdd-ann": 110, "emodb-01": 140}
    return {
        name: [buzz(pitch * f, 1000 + 5 * pitch) for f in (0.95, 1.0, 1.05)]
        for name, pitch in made.items()
    }


class TestSounds:
    def test_wordless_sounds_are_of_many_kinds_at_one_level(self) -> None:
        rng = np.random.default_rng(0)
        made = [wordless_sound(RATE, rng) for _ in range(60)]
        for sound in made:
            assert sound.shape == (RATE,)
            assert sound.dtype == np.float32
            assert np.sqrt(np.mean(np.square(sound))) == pytest.approx(1, abs=0.05)
        shapes = np.stack([np.abs(np.fft.rfft(sound)) for sound in made])
        shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
        likeness = (shapes @ shapes.T)[np.triu_indices(60, 1)]
        assert np.percentile(likeness, 90) < 0.5

    def test_a_tune_keeps_to_the_notes_of_the_scale(self) -> None:
        """Without drums or glides nothing lies below the lowest note."""
        rng = np.random.default_rng(1)
        shares = []
        for _ in range(20):
            power = np.abs(np.fft.rfft(tune(2 * RATE, rng))) ** 2
            shares.append(power[: 2 * 50].sum() / power.sum())
        assert np.median(shares) < 0.01

    def test_what_is_judged_is_where_there_is_something(self, voices: dict[str, Takes]) -> None:
        rng = np.random.default_rng(2)
        for made in [
            *(wordless(rng) for _ in range(20)),
            *(speech(voices, rng) for _ in range(20)),
        ]:
            assert made.samples.shape == (CLIP_FRAMES * FRAME_SAMPLES,)
            assert made.samples.dtype == np.float32
            assert made.asked.shape == (CLIP_FRAMES,)
            if made.asked.any():
                asked = made.samples[np.repeat(made.asked, FRAME_SAMPLES)]
                assert 0.2 < np.sqrt(np.mean(np.square(asked))) / SPEECH_LEVEL < 5


class TestNetwork:
    def test_a_seed_gives_the_same_weights_again(self, voices: dict[str, Takes]) -> None:
        plan = TrainingPlan(steps=2, seed=1, batch_size=2)
        first, again = train(voices, {}, plan), train(voices, {}, plan)
        for name, weights in first.state_dict().items():
            assert torch.equal(weights, again.state_dict()[name]), name

    def test_the_graph_answers_as_the_network(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = VoiceCheck()
        write_onnx(network, tmp_path / "check.onnx")
        session = onnxruntime.InferenceSession(
            str(tmp_path / "check.onnx"), providers=["CPUExecutionProvider"]
        )
        rng = np.random.default_rng(0)
        for num_frames in (1, 7, 300):
            audio = rng.standard_normal(num_frames * FRAME_SAMPLES).astype(np.float32) * 0.05
            np.testing.assert_allclose(
                session.run(["score"], {"power": power_spectrum(audio)})[0],
                network.scores(audio[None])[0],
                atol=1e-4,
            )
        assert (tmp_path / "check.onnx").stat().st_size < 2**18

    def test_it_hears_no_further_than_it_says(self) -> None:
        torch.manual_seed(0)
        network = VoiceCheck()
        audio = np.random.default_rng(0).standard_normal((1, 10 * RATE)).astype(np.float32)
        changed = audio.copy()
        changed[:, : 4 * RATE] = 0
        before, after = network.scores(audio)[0], network.scores(changed)[0]
        differs = np.flatnonzero(np.abs(before - after) > 1e-6)
        assert differs.max() < (4 + CONTEXT_S) * RATE / FRAME_SAMPLES


def test_from_recordings_to_a_graph_and_its_report(
    voices: dict[str, Takes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fsdd, emodb = tmp_path / "fsdd", tmp_path / "emodb"
    fsdd.mkdir()
    emodb.mkdir()
    for take in range(3):
        for name in ("ann", "bob"):
            soundfile.write(fsdd / f"1_{name}_{take}.wav", voices["fsdd-ann"][take], RATE)
        soundfile.write(emodb / f"01a01N{'abc'[take]}.wav", voices["emodb-01"][take], RATE)
    out = tmp_path / "check.onnx"
    command = ["--fsdd", str(fsdd), "--emodb", str(emodb), "--out", str(out), "--steps", "1"]
    held_out = ["--hold-out-fsdd", "bob", "--sounds", "5", "--synthetic-voices", "0"]
    voice_check.main([*command, *held_out])
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    audio = np.zeros(10 * FRAME_SAMPLES, np.float32)
    assert session.run(["score"], {"power": power_spectrum(audio)})[0].shape == (10,)
    told = capsys.readouterr().out
    assert "of 5 wordless sounds" in told
    assert "fsdd-bob" in told
