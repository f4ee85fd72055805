"""The script that builds TensorRT plans, run with a trtexec that notes what it is asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from export import configs, tensorrt

TRTEXEC = """\
#!/usr/bin/env bash
if [ "$1" = --help ]; then
    echo "  --saveEngine=<file>  $TYPING_FLAG"
    exit 0
fi
echo "$@" >> "$CALLS"
for argument in "$@"; do
    case $argument in --saveEngine=*) echo plan > "${argument#--saveEngine=}" ;; esac
done
exit "${STATUS:-0}"
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for version in ("emotion/1", "emotion/2", "speaker_embedding/1", "whisper/1"):
        (tmp_path / "models" / version).mkdir(parents=True)
        (tmp_path / "models" / version / "model.onnx").write_text("graph")
    tensorrt.write_build_script(tmp_path / "models")
    return tmp_path / "models"


def build(repository: Path, **environment: str) -> tuple[int, list[str]]:
    """Runs the script from elsewhere; returns its status and trtexec's argument lines."""
    trtexec, calls = repository.parent / "trtexec", repository.parent / "calls"
    trtexec.write_text(TRTEXEC)
    trtexec.chmod(0o755)
    calls.write_text("")
    settings = {"TRTEXEC": str(trtexec), "CALLS": str(calls), "TYPING_FLAG": "--stronglyTyped"}
    done = subprocess.run(
        [str(repository / "build_plans.sh")],
        cwd="/",
        env=os.environ | settings | environment,
        capture_output=True,
    )
    return done.returncode, calls.read_text().splitlines()


def test_every_leaf_graph_gets_a_plan_beside_it(repository: Path) -> None:
    status, calls = build(repository)

    assert status == 0
    assert len(calls) == 3
    plans = sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*.plan"))
    assert plans == [
        "emotion/1/model.plan",
        "emotion/2/model.plan",
        "speaker_embedding/1/model.plan",
    ]


def test_precision_is_the_graphs_own_and_every_shape_is_given(repository: Path) -> None:
    _, calls = build(repository)

    for call in calls:
        assert "--stronglyTyped" in call and "--fp16" not in call
        assert "--minShapes=AUDIO:1x1600" in call and "--maxShapes=AUDIO:16x480000" in call
    assert "--optShapes=AUDIO:8x64000" in calls[0]
    assert "--optShapes=AUDIO:8x24000" in calls[2]


def test_a_trtexec_that_knows_strong_typing_only_is_not_asked_for_it(repository: Path) -> None:
    _, calls = build(repository, TYPING_FLAG="")

    assert calls and not any("--stronglyTyped" in call for call in calls)


def test_a_second_run_builds_nothing_again(repository: Path) -> None:
    build(repository)

    assert build(repository) == (0, [])


def test_a_failed_build_leaves_no_plan_that_triton_would_load(repository: Path) -> None:
    status, calls = build(repository, STATUS="3")

    assert status != 0
    assert len(calls) == 1
    assert list(repository.rglob("model.plan")) == []


def test_without_trtexec_it_says_where_to_run(repository: Path) -> None:
    done = subprocess.run(
        [str(repository / "build_plans.sh")],
        env=os.environ | {"TRTEXEC": "/nowhere/trtexec"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "tritonserver image" in done.stderr


@pytest.mark.parametrize("model", sorted(tensorrt.PROFILES))
def test_the_largest_batch_that_triton_forms_fits_the_plan(model: str) -> None:
    profile = tensorrt.PROFILES[model]

    assert f"max_batch_size: {profile.max_batch}\n" in configs.render(model, "tensorrt")
    assert profile.min_batch <= profile.opt_batch <= profile.max_batch
    assert profile.min_s <= profile.opt_s <= profile.max_s
