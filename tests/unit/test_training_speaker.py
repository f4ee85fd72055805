"""The speaker recipe: disguises, truth and scores of test conversations, training, the folder.

Needs the export environment (torch, SpeechBrain).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from export import torchaudio_stub
from export.training import speaker
from export.training.speaker_checkpoint import BUNDLED_FOLDER, save
from export.training.speaker_evaluation import (
    Embed,
    Span,
    Talk,
    diarization_error,
    equal_error_rate,
    make_talk,
    score_diarizer,
)
from export.training.speaker_network import SpeakerNetwork, TrainingPlan, train
from export.training.speaker_teacher import Distillation, VoiceEncoder, pretrained_teacher
from export.training.speaker_voices import (
    DISGUISES,
    Disguise,
    Takes,
    disguise,
    disguised_voices,
    folder_clips,
    folder_voices,
    move_formants,
    stranger,
    string_takes,
)

RATE = 16_000
ROOT = Path(__file__).resolve().parents[2]


def buzz(pitch_hz: float, formant_hz: float, duration_s: float = 1.0) -> NDArray[np.float32]:
    """Harmonics of a pitch under one broad formant."""
    moments = np.arange(round(duration_s * RATE)) / RATE
    partials = np.arange(1, int(7000 / pitch_hz)) * pitch_hz
    gains = 0.01 + np.exp(-(((partials - formant_hz) / 300) ** 2))
    sound = (gains[:, None] * np.sin(2 * np.pi * partials[:, None] * moments)).sum(axis=0)
    return (0.05 * sound / sound.std()).astype(np.float32)


def peak_hz(audio: NDArray[np.float32]) -> float:
    """Centre of the spectrum's energy."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float((power * np.fft.rfftfreq(len(audio), 1 / RATE)).sum() / power.sum())


def pitch_hz(audio: NDArray[np.float32]) -> float:
    """Strongest periodicity between 60 and 300 Hz."""
    power = np.abs(np.fft.rfft(audio, 2 * len(audio))) ** 2
    correlation = np.fft.irfft(power)
    lags = np.arange(RATE // 300, RATE // 60)
    return RATE / int(lags[correlation[lags].argmax()])


@pytest.fixture(scope="module")
def voices() -> dict[str, Takes]:
    """Four made-up people in two made-up corpora, five takes each."""
    made = {
        "fsdd-ann": (110, 700),
        "fsdd-bob": (180, 1400),
        "emodb-01": (140, 2200),
        "emodb-02": (90, 1000),
    }
    return {
        name: [buzz(pitch * f, formant) for f in (0.95, 0.98, 1.0, 1.02, 1.05)]
        for name, (pitch, formant) in made.items()
    }


def teacher(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hears the shape of the spectrum in 16 bands, and nothing else."""
    power = np.square(np.abs(np.fft.rfft(windows)))[:, : windows.shape[1] // 2]
    bands = np.stack([band.sum(axis=1) for band in np.array_split(power, 16, axis=1)], axis=1)
    heard: NDArray[np.float32] = bands.astype(np.float32)
    return heard / np.linalg.norm(heard, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def network(voices: dict[str, Takes]) -> SpeakerNetwork:
    return train(voices, {}, {}, [], TrainingPlan(seed=1, steps=3, batch_size=4), teacher)


class TestVoices:
    def test_formants_move_and_the_pitch_stays(self) -> None:
        original = buzz(120, 1200)
        moved = move_formants(original, 1.25)
        assert pitch_hz(moved) == pytest.approx(pitch_hz(original), rel=0.02)
        assert peak_hz(moved) == pytest.approx(1.25 * peak_hz(original), rel=0.08)

    def test_speed_moves_pitch_and_length(self) -> None:
        faster = disguise(buzz(120, 1200), Disguise(speed=1.25))
        assert len(faster) == pytest.approx(RATE / 1.25, abs=2)
        assert pitch_hz(faster) == pytest.approx(150, rel=0.02)

    def test_every_voice_gets_every_disguise(self, voices: dict[str, Takes]) -> None:
        made = disguised_voices(voices, np.random.default_rng(0), takes_each=2)
        assert len(made) == len(voices) * len(DISGUISES)
        assert {len(takes) for takes in made.values()} == {2}
        assert len({mask.name for mask in DISGUISES}) == len(DISGUISES)

    @pytest.mark.parametrize("num_samples", [8_000, 16_000, 60_001])
    def test_strings_have_the_length_asked_for(
        self, voices: dict[str, Takes], num_samples: int
    ) -> None:
        strung = string_takes(voices["fsdd-ann"], num_samples, np.random.default_rng(0))
        assert strung.shape == (num_samples,)
        assert strung.dtype == np.float32

    @pytest.mark.parametrize("num_samples", [24_000, 40_001])
    def test_strangers_differ_from_each_other(
        self, voices: dict[str, Takes], num_samples: int
    ) -> None:
        rng = np.random.default_rng(0)
        heard = [stranger(voices["fsdd-ann"], num_samples, rng) for _ in range(20)]
        assert {window.shape for window in heard} == {(num_samples,)}
        assert {window.dtype for window in heard} == {np.dtype(np.float32)}
        centres = [peak_hz(window) for window in heard]
        assert min(centres) < 0.9 * np.median(centres) < np.median(centres) / 0.9 < max(centres)


class TestFolders:
    def write(self, path: Path, audio: NDArray[np.float32]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, RATE)

    def test_each_folder_is_a_voice(self, tmp_path: Path) -> None:
        people = tmp_path / "people"
        self.write(people / "ann/here/1.wav", np.pad(buzz(110, 700), 8000))
        self.write(people / "ann/there/2.wav", buzz(112, 700, 0.4))
        self.write(people / "bob/1.wav", buzz(180, 1400))
        for number, unusable in enumerate(
            (np.zeros(0, np.float32), np.zeros(RATE, np.float32), buzz(110, 700, 0.1))
        ):
            self.write(people / f"bob/unusable{number}.wav", unusable)
        voices = folder_voices(people, 10, np.random.default_rng(0))
        assert {name: len(takes) for name, takes in voices.items()} == {
            "people-ann": 2,
            "people-bob": 1,
        }
        longest = max(len(take) for take in voices["people-ann"])
        assert RATE <= longest < 1.2 * RATE, "the silence around it is gone"
        fewer = folder_voices(people, 1, np.random.default_rng(0))
        assert [len(takes) for takes in fewer.values()] == [1, 1]

    def test_clips_lie_anywhere(self, tmp_path: Path) -> None:
        self.write(tmp_path / "here/1.wav", buzz(110, 700))
        self.write(tmp_path / "2.wav", buzz(180, 1400))
        self.write(tmp_path / "silence.wav", np.zeros(RATE, np.float32))
        assert len(folder_clips(tmp_path)) == 2
        with pytest.raises(FileNotFoundError, match="no WAV file"):
            folder_clips(tmp_path / "nowhere")

    def test_what_holds_no_voice_is_named(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        with pytest.raises(FileNotFoundError, match="no folders"):
            folder_voices(tmp_path, 10, rng)
        self.write(tmp_path / "ann/1.wav", np.zeros(RATE, np.float32))
        with pytest.raises(FileNotFoundError, match="ann"):
            folder_voices(tmp_path, 10, rng)


class TestTeacher:
    def test_embeddings_have_length_one_whatever_the_level(self) -> None:
        torch.manual_seed(0)
        encoder = VoiceEncoder()
        windows = np.stack([buzz(110, 700), buzz(180, 1400)])
        embeddings = encoder.embed(windows)
        assert embeddings.shape == (2, 256)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(encoder.embed(windows * np.float32(0.1)), embeddings, atol=1e-4)

    def test_the_weights_come_from_a_package_that_is_not_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "resemblyzer"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        trained = VoiceEncoder()
        scale = {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
        torch.save({"model_state": {**trained.state_dict(), **scale}}, package / "pretrained.pt")
        monkeypatch.syspath_prepend(tmp_path)
        windows = buzz(120, 900)[None]
        np.testing.assert_array_equal(pretrained_teacher()(windows), trained.embed(windows))

    def test_a_missing_package_is_named_with_its_command(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.path", [])
        with pytest.raises(ModuleNotFoundError, match="pip install --no-deps resemblyzer==0"):
            pretrained_teacher()

    def test_a_student_that_hears_the_same_has_nothing_to_learn(
        self, voices: dict[str, Takes]
    ) -> None:
        rng = np.random.default_rng(0)
        windows = np.stack([string_takes(own, 24_000, rng) for own in voices.values()])
        lesson = Distillation(teacher, 16, windows)
        centred = torch.from_numpy(teacher(windows) - teacher(windows).mean(axis=0))
        with torch.no_grad():
            lesson.project.weight.copy_(torch.eye(16))
            lesson.project.bias.zero_()
        assert lesson(centred, windows).item() == pytest.approx(0, abs=1e-5)
        assert lesson(-centred, windows).item() == pytest.approx(2, abs=1e-5)


class TestScores:
    def test_equal_error_rate(self) -> None:
        high, low = np.linspace(0.6, 1, 50), np.linspace(0, 0.4, 70)
        assert equal_error_rate(high, low) == 0
        assert equal_error_rate(low, high) == 1
        mixed = np.linspace(0, 1, 1000)
        assert equal_error_rate(mixed, mixed) == pytest.approx(0.5, abs=0.01)

    def test_names_do_not_matter_but_confusion_does(self) -> None:
        truth = [Span(0, 4, "a"), Span(4, 8, "b")]
        assert diarization_error(truth, [Span(0, 4, "x"), Span(4, 8, "y")]) == (0, 0)
        assert diarization_error(truth, [Span(0, 8, "x")]) == (0.5, 0.5)
        assert diarization_error(truth, [Span(0, 5, "x"), Span(5, 8, "y")]) == (0.125, 0.125)

    def test_missed_speech_and_false_alarms_count(self) -> None:
        truth = [Span(0, 4, "a")]
        assert diarization_error(truth, [Span(0, 3, "x")]) == (0.25, 0)
        assert diarization_error(truth, [Span(0, 5, "x")]) == (0.25, 0)
        assert diarization_error(truth, []) == (1.0, 0)

    def test_a_talk_says_truly_who_speaks_when(self, voices: dict[str, Takes]) -> None:
        talk = make_talk(voices, 30, np.random.default_rng(3))
        assert {turn.speaker for turn in talk.turns} == set(voices)
        assert len(talk.samples) >= 30 * RATE
        for turn, after in pairwise(talk.turns):
            assert turn.speaker != after.speaker
            spoken = talk.samples[round(turn.start * RATE) : round(turn.end * RATE)]
            pause = talk.samples[round(turn.end * RATE) : round(after.start * RATE)]
            assert np.abs(spoken).mean() > 20 * np.abs(pause).mean()

    def test_regions_merge_short_gaps_only(self) -> None:
        turns = (Span(0, 1, "a"), Span(1.2, 2, "b"), Span(2.5, 3, "a"))
        assert Talk(np.zeros(1, np.float32), turns).regions == [Span(0, 2), Span(2.5, 3)]

    def test_a_diarizer_that_knows_is_scored_as_perfect(self, voices: dict[str, Takes]) -> None:
        talk = make_talk(voices, 20, np.random.default_rng(4))

        def oracle(
            samples: NDArray[np.float32],
            regions: Sequence[Span],
            embed: Embed,
            *,
            num_speakers: int | None = None,
        ) -> list[Span]:
            return list(talk.turns)

        for score in score_diarizer(oracle, lambda windows: windows, [talk]).values():
            assert (score.der, score.count_accuracy, score.mean_count) == (0, 1, 4)


class TestTraining:
    def test_a_seed_gives_the_same_weights_again(
        self, network: SpeakerNetwork, voices: dict[str, Takes]
    ) -> None:
        again = train(voices, {}, {}, [], TrainingPlan(seed=1, steps=3, batch_size=4), teacher)
        for name, weights in network.encoder.state_dict().items():
            assert torch.equal(weights, again.encoder.state_dict()[name]), name

    def test_the_teacher_hears_clips_of_whomever(self, voices: dict[str, Takes]) -> None:
        """As they are or disguised, in half of three quarters of the windows."""
        whistle = np.sin(2 * np.pi * 3000 * np.arange(2 * RATE) / RATE).astype(np.float32)
        heard: list[NDArray[np.float32]] = []

        def listening(windows: NDArray[np.float32]) -> NDArray[np.float32]:
            heard.extend(windows)
            return teacher(windows)

        train(voices, {}, {}, [whistle], TrainingPlan(seed=0, steps=6, batch_size=16), listening)
        whistled = [peak_hz(window) > 2_300 for window in heard]
        assert 0.2 < np.mean(whistled) < 0.5
        peaks = [peak_hz(window) for window, there in zip(heard, whistled, strict=True) if there]
        assert 0.3 < np.mean(np.isclose(peaks, 3000, rtol=0.01)) < 0.9

    def test_training_learns(self, voices: dict[str, Takes]) -> None:
        """Four buzzing voices are told apart after a few steps."""
        network = train(voices, {}, {}, [], TrainingPlan(seed=0, steps=16, batch_size=8), teacher)
        rng = np.random.default_rng(0)
        clips = [string_takes(takes, 24_000, rng) for takes in voices.values() for _ in range(4)]
        embeddings = network.embed(np.stack(clips))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = (embeddings @ embeddings.T).reshape(4, 4, 4, 4).mean(axis=(1, 3))
        assert np.diag(cosines).min() > cosines[~np.eye(4, dtype=bool)].max()

    def test_centring_makes_the_mean_embedding_zero(
        self, network: SpeakerNetwork, voices: dict[str, Takes]
    ) -> None:
        clips = np.stack([takes[0] for takes in voices.values()])
        network.centre(clips)
        assert np.abs(network.embed(clips).mean(axis=0)).max() < 1e-5

    def test_the_folder_loads_from_anywhere_with_speechbrain(
        self, network: SpeakerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(network, tmp_path / "folder")
        monkeypatch.chdir(tmp_path)
        check_folder(tmp_path / "folder", tmp_path / "links", network)

    @pytest.mark.parametrize("bounds", [{}, {"steps": 5, "minutes": 1.0}], ids=["neither", "both"])
    def test_exactly_one_bound(self, bounds: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="either steps or minutes"):
            TrainingPlan(**bounds)


def check_folder(folder: Path, links: Path, network: SpeakerNetwork | None) -> None:
    """Open a folder as the hub's users do, and compare with the network that wrote it."""
    torchaudio_stub.install()
    from speechbrain.inference.speaker import EncoderClassifier

    encoder = EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(links), overrides={"pretrained_path": str(folder)}
    )
    noise = np.random.default_rng(0).standard_normal((2, 24_000)).astype(np.float32) * 0.05
    encoded = encoder.encode_batch(torch.from_numpy(noise))[:, 0].numpy()
    assert encoded.shape == (2, 128)
    if network is not None:
        np.testing.assert_allclose(encoded, network.embed(noise), atol=1e-4)


class TestCheckpoint:
    def test_the_bundled_folder_loads(self, tmp_path: Path) -> None:
        check_folder(ROOT / BUNDLED_FOLDER, tmp_path / "links", None)

    def test_the_bundled_encoder_is_tiny(self) -> None:
        weights = torch.load(ROOT / BUNDLED_FOLDER / "embedding_model.ckpt", weights_only=True)
        assert sum(tensor.numel() for tensor in weights.values()) < 1_600_000

    def test_the_model_card_names_its_sources(self) -> None:
        card = (ROOT / BUNDLED_FOLDER / "README.md").read_text(encoding="utf-8")
        for source in ("free-spoken-digit-dataset", "CC BY-SA 4.0", "Burkhardt", "espeak-ng"):
            assert source in card


class TestCommand:
    def test_from_recordings_to_a_checkpoint_and_its_report(
        self, voices: dict[str, Takes], tmp_path: Path
    ) -> None:
        fsdd, emodb = tmp_path / "fsdd", tmp_path / "emodb"
        fsdd.mkdir()
        emodb.mkdir()
        for take in range(5):
            for name in ("ann", "bob"):
                soundfile.write(fsdd / f"1_{name}_{take}.wav", voices[f"fsdd-{name}"][take], RATE)
            for name in ("01", "02"):
                path = emodb / f"{name}a01N{'abcde'[take]}.wav"
                soundfile.write(path, voices[f"emodb-{name}"][take], RATE)
        out = tmp_path / "out"
        command = ["--fsdd", str(fsdd), "--emodb", str(emodb), "--out", str(out), "--steps", "2"]
        held_out = [
            "--hold-out-fsdd",
            "bob",
            "--hold-out-emodb",
            "02",
            "--talks",
            "1",
            "--windows",
            "5",
        ]
        speaker.main([*command, *held_out, "--synthetic-voices", "0"], teacher)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert report["held_out"] == ["fsdd-bob", "emodb-02"]
        assert set(report["talks_of_3"]) == {"count_unknown", "count_known"}
        assert "DER" in speaker.describe(report)
        check_folder(out, tmp_path / "links", None)
