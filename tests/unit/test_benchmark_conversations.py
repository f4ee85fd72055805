"""Synthetic conversations: the truth that is written is what the audio holds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from benchmarks.cli import main
from benchmarks.synthesis.acoustics import SAMPLE_RATE_HZ, pink_noise, room_response
from benchmarks.synthesis.conversations import Recipe, converse, words_of
from benchmarks.synthesis.plan import LEAD_S, plan
from benchmarks.synthesis.takes import Take

SPEAKERS = ("a", "b", "c")


def tone(frequency_hz: float, duration_s: float) -> NDArray[np.float32]:
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.07 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def takes_of(frequencies_hz: dict[str, float]) -> dict[str, list[Take]]:
    """Every speaker says tones of their own pitch, 0.3 to 0.7 s long."""
    return {
        speaker: [
            Take(tone(frequency_hz, length_s), speaker, 0.0, length_s, f"{speaker}{n}", None)
            for n, length_s in enumerate((0.3, 0.4, 0.5, 0.6, 0.7))
        ]
        for speaker, frequency_hz in frequencies_hz.items()
    }


TAKES = takes_of({"a": 300.0, "b": 1100.0, "c": 2300.0})


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("seed", range(5))
def test_nobody_speaks_over_a_third_voice_or_over_themselves(overlap: float, seed: int) -> None:
    turns = plan(TAKES, 180.0, overlap, np.random.default_rng(seed))
    assert {turn.speaker for turn in turns} == set(SPEAKERS)
    assert turns[0].start_s == LEAD_S
    for before, last, turn in zip(turns, turns[1:], turns[2:], strict=False):
        assert turn.speaker != last.speaker
        assert turn.start_s >= before.end_s + 0.3 - 1e-9
        assert turn.end_s > last.end_s > before.end_s
    for turn in turns:
        for one, other in itertools.pairwise(turn.placed):
            assert 0.05 <= other.start_s - one.end_s <= 0.25 + 1e-9
    overlapped = sum(max(0.0, a.end_s - b.start_s) for a, b in itertools.pairwise(turns))
    spoken = sum(t.end_s - t.start_s for t in turns) - overlapped
    assert overlapped / spoken == pytest.approx(overlap, abs=0.03)


def test_the_audio_holds_each_voice_exactly_where_the_truth_says() -> None:
    """A pitch sounds inside its speaker's takes and nowhere else, to 5 ms."""
    (conversation,) = converse(TAKES, Recipe(1, (3, 3), 30.0, overlap=0.15, seed=3))
    time_s = np.arange(len(conversation.audio)) / SAMPLE_RATE_HZ
    for speaker, frequency_hz in {"a": 300.0, "b": 1100.0, "c": 2300.0}.items():
        carrier = np.exp(-2j * np.pi * frequency_hz * time_s)
        window = np.ones(160) / 160  # 10 ms: whole periods of all three pitches
        envelope = np.abs(np.convolve(conversation.audio * carrier, window, "same"))
        sounds = envelope > 0.5 * np.median(envelope[envelope > 0.01])
        truth = np.zeros(len(sounds), dtype=bool)
        for placed in (p for t in conversation.turns if t.speaker == speaker for p in t.placed):
            first, last = (round(s * SAMPLE_RATE_HZ) for s in (placed.start_s, placed.end_s))
            truth[first:last] = True
        edges = np.flatnonzero(np.diff(truth.astype(int)))
        near = np.min(np.abs(np.flatnonzero(sounds != truth)[:, None] - edges), axis=1)
        assert near.max(initial=0) <= 0.005 * SAMPLE_RATE_HZ


def test_noise_lies_as_far_below_speech_as_asked() -> None:
    clean, noisy = (
        next(converse(TAKES, Recipe(1, (2, 2), 20.0, snr_db=(snr,), seed=1))) for snr in (None, 20)
    )
    words = words_of(clean.turns)
    assert words is not None and words == words_of(noisy.turns)
    spoken = np.zeros(len(clean.audio), dtype=bool)
    for turn in clean.turns:
        spoken[round(turn.start_s * SAMPLE_RATE_HZ) : round(turn.end_s * SAMPLE_RATE_HZ)] = True
    speech, noise = clean.audio[spoken], noisy.audio - clean.audio
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.1)


def test_a_room_keeps_the_direct_sound_at_zero_and_decays_as_asked() -> None:
    response = room_response(0.5, np.random.default_rng(0)).astype(np.float64)
    assert response[0] == 1.0 and np.all(response[1:80] == 0.0)
    power_db = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1])  # Schroeder's integral
    early, late = (power_db[round(t * SAMPLE_RATE_HZ)] for t in (0.05, 0.25))
    assert early - late == pytest.approx(60 * 0.2 / 0.5, abs=2.0)


def test_pink_noise_falls_by_three_decibels_an_octave() -> None:
    power = np.abs(np.fft.rfft(pink_noise(160_000, np.random.default_rng(0)))) ** 2
    octaves = [10 * np.log10(power[n : 2 * n].mean()) for n in (1000, 2000, 4000, 8000)]
    assert np.diff(octaves) == pytest.approx([-3, -3, -3], abs=0.5)


def write_fsdd(folder: Path) -> None:
    folder.mkdir()
    for speaker, frequency_hz in (("theo", 300.0), ("george", 700.0)):
        for digit in range(10):
            silence = np.zeros(2000, dtype=np.float32)
            audio = np.concatenate([silence, tone(frequency_hz, 0.4), silence])
            soundfile.write(folder / f"{digit}_{speaker}_0.wav", audio, SAMPLE_RATE_HZ)


def test_the_command_writes_truth_that_agrees_with_itself(tmp_path: Path) -> None:
    write_fsdd(tmp_path / "fsdd")
    arguments = ["conversations", "--data", str(tmp_path / "fsdd"), "--count", "2"]
    arguments += ["--speakers", "2", "--duration", "20", "--overlap", "0.1", "--out"]
    for out in ("one", "two"):
        assert main([*arguments, str(tmp_path / out)]) == 0
    rows = [json.loads(x) for x in (tmp_path / "one" / "manifest.jsonl").read_text().splitlines()]
    assert [row["conditions"]["speakers"] for row in rows] == [2, 2]
    for row in rows:
        audio = tmp_path / "one" / row["audio"]
        assert audio.read_bytes() == (tmp_path / "two" / row["audio"]).read_bytes()
        truth = json.loads((audio.parent / f"{row['id']}.truth.json").read_text())
        words = json.loads((audio.parent / row["words"]).read_text())
        assert row["text"].split() == [word["word"] for word in words]
        assert sum(truth["talk_time"].values()) == pytest.approx(
            truth["speech"] + truth["overlap"], abs=0.01
        )
        rttm = (audio.parent / row["rttm"]).read_text().split("\n")[:-1]
        assert len(rttm) == len(truth["turns"])
        assert soundfile.info(audio).duration == pytest.approx(truth["duration"])


def test_wrong_usage_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fsdd(tmp_path / "fsdd")
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        (["--data", str(tmp_path / "empty")], "no WAV files"),
        (["--data", str(tmp_path / "fsdd"), "--voices", "nobody"], "no voice 'nobody'"),
        (["--data", str(tmp_path / "fsdd"), "--speakers", "2-4"], "only 2 voices"),
        (["--data", str(tmp_path / "fsdd"), "--overlap", "0.9"], "--overlap"),
    ):
        assert main(["conversations", *arguments, *out]) == 2
        assert message in capsys.readouterr().err
