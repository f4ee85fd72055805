"""Real exports rolled out, and versions whose graphs compute no numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
from onnx import helper

from api.settings import PROJECT_ROOT
from tests.model_versions import publish
from tests.rolling import LENIENT, Crowd, Rolling, recording


def not_a_number(folder: Path, content: dict[str, Any]) -> None:
    """A graph whose every answer is NaN: its last tensor plus one."""
    model = onnx.load(str(folder / "model.onnx"))
    (output,) = model.graph.output
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output.name:
                node.output[index] = "finite"
    nan = helper.make_tensor("nan", onnx.TensorProto.FLOAT, [], [float("nan")])
    model.graph.initializer.append(nan)
    model.graph.node.append(helper.make_node("Add", ["finite", "nan"], [output.name]))
    onnx.save(model, str(folder / "model.onnx"))


@pytest.mark.parametrize("model", ["emotion", "speaker_embedding"])
def test_a_version_that_answers_no_numbers_is_rolled_back(rolling: Rolling, model: str) -> None:
    publish(rolling.repository, model, "7", not_a_number)
    with Crowd(rolling, 2).asking() as crowd:
        tried = rolling.begun(model, version="7", weight=50)
        failed = rolling.until(model, tried, "failed", "running")
        gates = {**LENIENT, "min_requests": 50, "golden": False}
        rollout = rolling.begun(model, version="7", weight=50, gates=gates)
        done = rolling.until(model, rollout, "rolled_back")
        rolling.settled(model, ["1"])
    crowd.check()
    assert failed["status"] == "failed"
    assert failed["history"][-1]["detail"]["gate"] == "golden"
    assert done["history"][-1]["detail"]["gate"] == "error_rate"
    for ended in (failed, done):
        assert "answer can't be read" in ended["reason"]
    assert {versions[model] for versions in crowd.versions} == {"1"}


def test_a_checkpoint_exported_again_is_promoted_and_rolled_back(rolling: Rolling) -> None:
    model = "speaker_embedding"
    command = f"-m export {model} --checkpoint bundled --version 2 --repository"
    exported = subprocess.run(
        [sys.executable, *command.split(), str(rolling.repository)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    assert exported.returncode == 0, exported.stderr
    release = rolling.repository / model / "2"
    assert json.loads((release / "manifest.json").read_text())["checkpoint"] == "bundled"
    kept = recording()
    before = rolling.analyze(kept).json()
    with Crowd(rolling, 4).asking() as crowd:
        gates = {"min_requests": 4, "agreement": 0.99, "p95_ratio": None}
        rollout = rolling.begun(
            model, version="2", steps=[50], step_seconds=0, gates=gates, auto_promote=True
        )
        done = rolling.until(model, rollout, "promoted", "rolled_back", "failed")
        assert done["status"] == "promoted", done["reason"]
        rolling.settled(model, ["2"])
        after = rolling.analyze(kept).json()
        assert after["models"][model]["version"] == "2"
        url = f"{rolling.service.url}/models/{model}/rollouts/{rollout}/rollback"
        back = httpx.post(url, timeout=60).json()
        rolling.until(model, back["id"], "promoted")
        rolling.settled(model, ["1"])
    crowd.check()
    assert {versions[model] for versions in crowd.versions} == {"1", "2"}
    again = rolling.analyze(kept).json()
    assert again["models"][model]["version"] == "1"
    told = [(s["speaker"], s["text"]) for s in before["segments"]]
    for answer in (after, again):
        assert [(s["speaker"], s["text"]) for s in answer["segments"]] == told
