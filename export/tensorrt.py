"""The script that builds the leaf models' TensorRT plans inside the serving image.

A plan fits one TensorRT version and one GPU, so none is exported: a version folder holds model.onnx
for every target, and `build_plans.sh` makes model.plan of it where it will run. Plans are preferred
to onnxruntime's TensorRT accelerator, which builds an engine during a request whenever a shape
falls outside what it has seen.

Precision comes from the ONNX file alone (`--stronglyTyped`, the only mode of TensorRT 11): an fp16
export names its fp32 norms and pooling by type, so no layer flags are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from export.configs import LEAF_MAX_BATCH
from export.types import SAMPLE_RATE_HZ

SCRIPT_NAME: Final = "build_plans.sh"


@dataclass(frozen=True)
class Profile:
    """Shapes of AUDIO that a plan serves: batch sizes, and lengths in seconds; `opt` is what it is
    fastest at."""

    min_batch: int
    opt_batch: int
    max_batch: int
    min_s: float
    opt_s: float
    max_s: float


PROFILES: Final = {
    "emotion": Profile(1, 8, LEAF_MAX_BATCH["tensorrt"], min_s=0.1, opt_s=4.0, max_s=30.0),
    "speaker_embedding": Profile(
        1, 8, LEAF_MAX_BATCH["tensorrt"], min_s=0.1, opt_s=1.5, max_s=30.0
    ),
}
"""From the shortest clip that all layers accept to a live utterance of 30 s, fastest at the windows
of a recording."""

_SCRIPT: Final = Template("""\
#!/usr/bin/env bash
# Builds model.plan beside every model.onnx of the leaf models that has none yet.
# Written by: python -m export render --target tensorrt
#
# Run it inside the image that will serve, on the GPU that will serve:
#   docker run --rm --gpus 1 -v "$$PWD:/models" \\
#       nvcr.io/nvidia/tritonserver:YY.MM-py3 /models/$script
# An image without trtexec: use nvcr.io/nvidia/tensorrt:YY.MM-py3 of the same month, whose TensorRT
# is the same. Plans of another TensorRT version or GPU don't load: delete them and run it again.
set -euo pipefail
cd "$$(dirname "$${BASH_SOURCE[0]}")"

trtexec=$${TRTEXEC:-$$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}
if [ ! -x "$$trtexec" ]; then
    echo "trtexec isn't here: run this in NVIDIA's tritonserver image, or set TRTEXEC" >&2
    exit 1
fi

# TensorRT 11 knows strongly typed networks only, and may drop the flag that asks for them.
typing=()
if grep -q -- --stronglyTyped < <("$$trtexec" --help 2>&1); then
    typing=(--stronglyTyped)
fi

build() { # MODEL MIN_SHAPE OPT_SHAPE MAX_SHAPE
    local graph plan
    for graph in "$$1"/*/model.onnx; do
        [ -e "$$graph" ] || continue
        plan=$${graph%.onnx}.plan
        if [ -e "$$plan" ]; then
            echo "$$plan is there"
            continue
        fi
        echo "building $$plan"
        "$$trtexec" --onnx="$$graph" --saveEngine="$$plan.partial" \\
            --skipInference "$${typing[@]}" \\
            --minShapes="AUDIO:$$2" --optShapes="AUDIO:$$3" --maxShapes="AUDIO:$$4"
        mv "$$plan.partial" "$$plan"
    done
}

$builds
""")


def build_script() -> str:
    """The text of build_plans.sh."""
    builds = "\n".join(
        f"build {model} {' '.join(shapes(profile))}" for model, profile in PROFILES.items()
    )
    return _SCRIPT.substitute(script=SCRIPT_NAME, builds=builds)


def shapes(profile: Profile) -> list[str]:
    """A profile as trtexec wants it: "batch x samples" at least, at best and at most."""
    batches = (profile.min_batch, profile.opt_batch, profile.max_batch)
    lengths = (profile.min_s, profile.opt_s, profile.max_s)
    return [
        f"{batch}x{round(length_s * SAMPLE_RATE_HZ)}"
        for batch, length_s in zip(batches, lengths, strict=True)
    ]


def write_build_script(repository: Path) -> Path:
    """Writes build_plans.sh, executable, at the root of a repository."""
    path = repository / SCRIPT_NAME
    path.write_text(build_script())
    path.chmod(0o755)
    return path
