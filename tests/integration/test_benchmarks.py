"""`python -m benchmarks` against the running service."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from api.settings import PROJECT_ROOT
from benchmarks.cli import main
from benchmarks.evaluation.command import SOME_FAILED
from benchmarks.scaling import arrivals
from tests.conftest import SAMPLE, Service

CLIPS = PROJECT_ROOT / "tests" / "data"


def test_labelled_recordings_are_scored_and_those_that_fail_are_listed(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"no audio at all")
    (tmp_path / "theo.rttm").write_text("SPEAKER digit_theo 1 0.0 0.5 <NA> <NA> theo <NA> <NA>\n")
    rows = [
        {"audio": str(SAMPLE), "id": "sample", "num_speakers": 2, "conditions": {"kind": "talk"}},
        {"audio": str(CLIPS / "emotion_sad_09.wav"), "emotion": "sad"},
        {
            "audio": str(CLIPS / "digit_theo.wav"),
            "rttm": "theo.rttm",
            "conditions": {"kind": "word"},
        },
        {"audio": "silence.wav", "text": "", "conditions": {"kind": "word"}},
        {"audio": "broken.wav", "text": "four"},
    ]
    manifest, out = tmp_path / "manifest.jsonl", tmp_path / "out"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["evaluate", "--manifest", str(manifest), "--url", service.url, "--out", str(out)]
    assert main([*arguments, "--by", "kind"]) == SOME_FAILED
    results = json.loads((out / "results.json").read_text())
    assert list(results["failed"]) == ["broken"]
    assert results["failed"]["broken"].startswith("400 ")
    assert results["recordings"] == 4
    assert results["metrics"]["uar"]["value"] in (0.0, 1.0)
    assert results["metrics"]["speaker_count_right"]["value"] == 1.0
    assert "wer" not in results["metrics"]  # the silent reference has no words to divide by
    assert results["scores"][3]["words"] == {
        "substituted": 0,
        "deleted": 0,
        "inserted": 0,
        "total": 0,
    }
    assert set(results["models"]) == {"whisper", "emotion", "speaker_embedding"}
    answer = json.loads((out / "answers" / "sample.json").read_text())
    assert len(answer["speakers"]) == 2
    assert {path.name for path in out.glob("*.png")} >= {"figures.png", "emotions.png"}
    said = capsys.readouterr().out
    assert said in (out / "report.md").read_text()
    assert "- broken: 400 " in said


def test_load_is_measured_against_any_url(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "smoke", "--url", service.url, "--out", str(tmp_path)]
    arguments += ["--triton-metrics", f"http://127.0.0.1:{service.triton_port('metrics')}/metrics"]
    assert main([*arguments, "--requests", "4", "--loads", "2", "4/s"]) == 0
    results = json.loads((tmp_path / "smoke.json").read_text())
    closed, constant = results["runs"]
    assert (closed["load"], constant["load"]) == ("2 clients", "4 requests/s")
    for run in (closed, constant):
        assert run["errors"] == {} and run["from_cache"] == 0
        assert run["requests"] == 4
        assert run["audio_s"] == pytest.approx(run["service"]["audio_s"], abs=0.1)
        assert {"decode", "vad", "whisper", "assembly"} <= set(run["stages_ms"])
        assert run["triton"]["whisper"]["inferences"] >= 4
        assert 1 <= run["triton"]["whisper"]["mean_batch"] <= 4
        assert run["health_s"]["p50"] > 0
        assert 1 < run["tokens_per_audio_s"] < 6, "digits, spoken at about two a second"
    assert results["machine"]["packages"]["numpy"]
    assert (tmp_path / "smoke.png").exists()
    assert (tmp_path / "smoke.md").read_text() == capsys.readouterr().out


def test_what_a_service_keeps_is_a_load(client: httpx.Client) -> None:
    """The time and the length of each recording, page by page."""
    made = client.post("/audio/analyze", files={"file": SAMPLE.read_bytes()})
    made.raise_for_status()
    calls = arrivals.of_service(client)
    assert made.json()["duration"] in [pytest.approx(call.audio_s, abs=0.01) for call in calls]
    assert calls[0].at_s == 0.0 and calls == sorted(calls, key=lambda call: call.at_s)
