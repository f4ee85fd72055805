"""config.pbtxt as text, and what differs between the targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import configs, pbtxt
from export.pbtxt import Symbol


def test_text_format_of_every_kind_of_value() -> None:
    text = pbtxt.render(
        {
            "name": 'a "quoted" name',
            "max_batch_size": 8,
            "strict": True,
            "kind": Symbol("KIND_CPU"),
            "dims": [-1, 80],
            "policy": {"latest": {"num_versions": 1}},
            "input": [{"name": "A"}, {"name": "B"}],
        }
    )

    assert text.splitlines() == [
        'name: "a \\"quoted\\" name"',
        "max_batch_size: 8",
        "strict: true",
        "kind: KIND_CPU",
        "dims: [ -1, 80 ]",
        "policy {",
        "  latest {",
        "    num_versions: 1",
        "  }",
        "}",
        "input {",
        '  name: "A"',
        "}",
        "input {",
        '  name: "B"',
        "}",
    ]


def test_a_config_remembers_its_target(tmp_path: Path) -> None:
    assert configs.rendered_target(tmp_path, "emotion") is None

    configs.write_all(tmp_path, "onnxruntime")

    for model in configs.ALL_MODELS:
        assert configs.rendered_target(tmp_path, model) == "onnxruntime"


def test_a_config_written_by_hand_has_no_target(tmp_path: Path) -> None:
    (tmp_path / "emotion").mkdir()
    (tmp_path / "emotion" / "config.pbtxt").write_text('name: "emotion"\n')

    assert configs.rendered_target(tmp_path, "emotion") is None


@pytest.mark.parametrize("model", ["emotion", "speaker_embedding"])
def test_leaves_look_for_what_their_backend_loads(model: str) -> None:
    for target in ("embedded", "onnxruntime"):
        text = configs.render(model, target)
        assert 'backend: "onnxruntime"' in text and '"model.onnx"' in text
    plan = configs.render(model, "tensorrt")
    assert 'backend: "tensorrt"' in plan and '"model.plan"' in plan


def test_only_the_embedded_target_runs_on_the_cpu() -> None:
    for model in ("whisper", "emotion", "speaker_embedding"):
        assert "KIND_CPU" in configs.render(model, "embedded")
        for target in ("onnxruntime", "tensorrt"):
            assert "KIND_GPU" in configs.render(model, target)
