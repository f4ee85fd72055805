"""The emotion classifier's recipe: statistics, windows, network, scores, and a run on buzzes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs torch")
transformers = pytest.importorskip("transformers", reason="training needs transformers")

from export.training import emotion  # noqa: E402
from export.training.corpora import SAMPLE_RATE_HZ, Recording  # noqa: E402
from export.training.emotion_calibration import reliability  # noqa: E402
from export.training.emotion_data import (  # noqa: E402
    LABELS,
    UNLABELLED,
    WINDOW,
    disturb,
    draw_windows,
    emotional_clips,
    fit_window,
    sampling_weights,
    spoken_strings,
    standardise,
)
from export.training.emotion_features import pitch_track, utterance_statistics  # noqa: E402
from export.training.emotion_model import EmotionTrainee  # noqa: E402
from export.training.emotion_recipe import Recipe  # noqa: E402
from export.training.emotion_scoring import (  # noqa: E402
    BASIC_LABELS,
    calibration_error,
    fit_temperature,
    score,
)


def voice(pitch_hz: float, duration_s: float = 1.5) -> NDArray[np.float32]:
    """A buzz of twelve harmonics that swells twice, with a little noise."""
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 13))
    swell = 0.2 + np.sin(2 * np.pi * time_s / duration_s) ** 2
    noise = np.random.default_rng(0).standard_normal(len(time_s)) * 0.01
    return (0.1 * (buzz * swell + noise)).astype(np.float32)


def recording(pitch_hz: float, speaker: str, emotion_name: str | None) -> Recording:
    audio = voice(pitch_hz)
    duration_s = len(audio) / SAMPLE_RATE_HZ
    digit = None if emotion_name else 1
    corpus, text = ("emodb", "") if emotion_name else ("fsdd", "one")
    return Recording(audio, corpus, speaker, "en", text, 0, 0, duration_s, digit, emotion_name)


@pytest.mark.parametrize("pitch_hz", [90.0, 160.0, 320.0])
def test_pitch_is_found(pitch_hz: float) -> None:
    found_hz, voicing = pitch_track(torch.from_numpy(voice(pitch_hz)))
    assert float(found_hz.median()) == pytest.approx(pitch_hz, rel=0.02)
    assert float(voicing.median()) > 0.8


def test_statistics_ignore_the_level_and_follow_the_pitch() -> None:
    audio = torch.from_numpy(voice(120.0))
    low, loud = utterance_statistics(audio), utterance_statistics(audio * 4)
    high = utterance_statistics(torch.from_numpy(voice(240.0)))
    assert low.shape == (105,)
    assert torch.allclose(low, loud, atol=0.05)
    mean_octave = 92
    assert float(high[mean_octave] - low[mean_octave]) == pytest.approx(1.0, abs=0.05)


def test_statistics_of_noise_without_voice_are_finite() -> None:
    """The mean pitch of a whisper, which has no voiced frame, would be a mean of nothing: NaN."""
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal(8000).astype(np.float32))
    assert torch.isfinite(utterance_statistics(noise)).all()


@pytest.mark.parametrize("num_samples", [9_000, 24_000, WINDOW, 50_000])
def test_windows_hold_real_samples_in_order(num_samples: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        samples = fit_window(num_samples, rng)
        assert samples.shape == (WINDOW,)
        assert samples.min() >= -1
        assert samples.max() < num_samples
        steps = np.diff(samples[samples >= 0])
        assert ((steps == 1) | (steps < 0)).all()


def test_disturbed_speech_keeps_its_shape_and_varies() -> None:
    clean = torch.from_numpy(np.tile(voice(150.0), (8, 1)))
    disturbed = disturb(clean, np.random.default_rng(3))
    assert disturbed.shape == clean.shape
    assert torch.isfinite(disturbed).all()
    similarity = torch.nn.functional.cosine_similarity(clean, disturbed)
    assert float(similarity.max()) > 0.9
    assert float(similarity.min()) < 0.999


def test_every_label_and_speaker_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(4)
    recordings = [recording(110, "03", "angry")] * 3 + [recording(210, "08", "angry")]
    clips = emotional_clips([*recordings, recording(150, "03", "sad")], 1, 0.1, rng)
    weights = sampling_weights(clips)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:3].sum() == pytest.approx(0.25)
    assert weights[3] == pytest.approx(0.25)
    assert weights[4] == pytest.approx(0.5)


def test_targets_move_with_the_window() -> None:
    rng = np.random.default_rng(5)
    clip = emotional_clips([recording(200.0, "08", "boredom")], 1, 0.1, rng)[0]
    assert LABELS[clip.label] == "bored"
    windows = draw_windows([clip] * 20, rng)
    assert windows.audio.shape == (20, WINDOW)
    assert windows.frames.shape == (20, WINDOW // 160, 42)
    voiced = windows.frames[..., 1] > 0.8
    assert 0.5 < float(voiced.float().mean()) <= 1
    assert float(windows.frames[..., 0][voiced].median()) == pytest.approx(np.log2(200), abs=0.03)


def test_strings_of_digits_have_no_label() -> None:
    clips = spoken_strings([recording(130.0, "theo", None)], 3, np.random.default_rng(6))
    assert [clip.label for clip in clips] == [UNLABELLED] * 3
    assert all(len(clip.audio) > SAMPLE_RATE_HZ for clip in clips)


def test_the_halves_of_the_trainee_make_the_classifier() -> None:
    """The recipe calls the classifier's parts one by one; the exported whole must say the same."""
    trainee = EmotionTrainee(105).eval()
    audio = standardise(torch.from_numpy(np.tile(np.resize(voice(180.0), WINDOW), (2, 1))))
    with torch.inference_mode():
        whole = trainee.classifier(audio).logits
        halves = trainee(trainee.hear(audio)).logits
    assert torch.allclose(whole, halves, atol=1e-6)
    assert trainee.classifier.num_parameters() < 600_000


def test_recall_is_averaged_over_labels_and_restricted() -> None:
    truths = np.array([LABELS.index(name) for name in ("angry", "angry", "sad", "bored")])
    logits = np.zeros((4, len(LABELS)), np.float32)
    answers = ("angry", "bored", "sad", "bored")
    logits[np.arange(4), [LABELS.index(name) for name in answers]] = 2
    logits[1, LABELS.index("happy")] = 1
    every = score(logits, truths)
    assert every.uar == pytest.approx((0.5 + 1 + 1) / 3)
    assert every.accuracy == pytest.approx(0.75)
    basic = score(logits, truths, BASIC_LABELS)
    assert basic.confusion == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    with pytest.raises(ValueError, match="fearful"):
        score(logits, truths, ("fearful",))


def test_temperature_mends_overconfidence() -> None:
    rng = np.random.default_rng(7)
    honest = rng.standard_normal((600, len(LABELS))).astype(np.float32)
    # Truths are drawn from the softmax itself, so 1 is right for `honest` and 3 for its triple.
    odds = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truths = (rng.random(600)[:, None] > odds.cumsum(1)).sum(1).clip(0, len(LABELS) - 1)
    bold = 3 * honest
    temperature = fit_temperature(bold, truths)
    assert temperature == pytest.approx(3.0, rel=0.2)
    assert calibration_error(bold / temperature, truths) < 0.5 * calibration_error(bold, truths)
    before, after = reliability(bold, truths), reliability(bold / np.float32(temperature), truths)
    assert sum(row["count"] for row in before["bins"]) == 600
    usual, at_most = after["of_a_perfect_classifier"]
    assert usual < at_most
    assert after["calibration_error"] < at_most < before["calibration_error"]
    assert after["certain"]["share"] < before["certain"]["share"]
    assert after["certain"]["share_right"] > 0.5


def test_steps_scale_every_stage() -> None:
    recipe = Recipe()
    assert recipe.scaled_to(None) == recipe
    short = recipe.scaled_to(recipe.emotion_steps // 10)
    assert short.sense_steps == pytest.approx(recipe.sense_steps / 10, abs=1)
    with pytest.raises(ValueError, match="positive"):
        recipe.scaled_to(0)


@pytest.fixture
def corpora_on_disk(tmp_path: Path) -> tuple[Path, Path]:
    """Three actors, angry, happy, neutral and sad at pitches of their own, and two who count."""
    emodb, fsdd = tmp_path / "emodb", tmp_path / "fsdd"
    emodb.mkdir()
    fsdd.mkdir()
    for actor, pitch_hz in (("03", 110), ("08", 200), ("09", 220)):
        for place, letter in enumerate("WFNT"):
            audio = voice(pitch_hz * (1 + 0.1 * place))
            soundfile.write(emodb / f"{actor}a01{letter}a.wav", audio, SAMPLE_RATE_HZ)
    for name, pitch_hz in (("theo", 120), ("george", 100)):
        soundfile.write(fsdd / f"1_{name}_0.wav", voice(pitch_hz, 0.5), SAMPLE_RATE_HZ)
    return emodb, fsdd


def test_the_command_writes_a_folder_that_loads_and_a_report(
    corpora_on_disk: tuple[Path, Path], tmp_path: Path
) -> None:
    """Weights came out as NaN when a statistic was the same in every clip (always voiced)."""
    emodb, fsdd = corpora_on_disk
    out = tmp_path / "checkpoint"
    emotion.main(
        [
            *("--emodb", str(emodb), "--fsdd", str(fsdd), "--out", str(out)),
            *("--hold-out", "09", "--folds", "2", "--steps", "2", "--digit-strings", "6"),
        ]
    )
    report = json.loads((out / "report.json").read_text())
    assert report["trained_on"] == ["03", "08"]
    assert report["held_out"]["speakers"] == ["09"]
    assert [fold["speakers"] for fold in report["folds"]["each"]] == [["03"], ["08"]]
    assert sum(report["folds"]["each"][0]["digits"].values()) == pytest.approx(1.0)
    assert "never heard 09" in (out / "report.txt").read_text()
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    model = transformers.AutoModelForAudioClassification.from_pretrained(out)
    assert model.config.logit_temperature == report["temperature"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(out)
    inputs = extractor(voice(150.0), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    logits = model(**inputs).logits
    assert logits.shape == (1, len(LABELS))
    assert torch.isfinite(logits).all()
    assert model.config.id2label == dict(enumerate(LABELS))


def test_more_folds_than_actors_are_refused(
    corpora_on_disk: tuple[Path, Path], tmp_path: Path
) -> None:
    emodb, _ = corpora_on_disk
    with pytest.raises(ValueError, match="4 folds"):
        emotion.main(["--emodb", str(emodb), "--out", str(tmp_path / "x"), "--folds", "4"])
