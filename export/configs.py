"""The four models' config.pbtxt, for each place that they are served in.

| target | Triton | leaves | whisper (python backend) |
|---|---|---|---|
| embedded | the wheel's tritonserver, CPU | our backend named `onnxruntime` | OpenVINO, ORT |
| onnxruntime | NVIDIA's container, GPU | the real onnxruntime backend | ORT CUDA |
| tensorrt | NVIDIA's container, GPU | tensorrt backend, plans by build_plans.sh | ORT TensorRT |

A config depends on the target alone, not on the checkpoint: sizes that differ between checkpoints
(labels, embedding dimension) are left free, so one config serves every version of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from export import pbtxt
from export.pbtxt import Symbol, Value
from export.types import ENSEMBLE_NAME, MODEL_NAMES, SAMPLE_RATE_HZ, Target

FILENAME: Final = "config.pbtxt"

ALL_MODELS: Final = (*MODEL_NAMES, ENSEMBLE_NAME)

LEAF_MAX_BATCH: Final[Mapping[Target, int]] = {"embedded": 64, "onnxruntime": 64, "tensorrt": 16}
"""A TensorRT plan reserves memory for its largest batch of its longest clips (30 s) at once, hence
fewer."""

WHISPER_MAX_BATCH: Final = 8
"""Beyond eight 30 s chunks a decoding step is bound by cross-attention: twice the batch takes twice
the time."""

LEAF_QUEUE_DELAY_US: Final = 3_000
WHISPER_QUEUE_DELAY_US: Final = 5_000
"""How long a request waits for others to share its run with: small against the run itself (tens of
ms and more)."""

CPU_THREADS: Final[Mapping[str, int]] = {"whisper": 2, "emotion": 2, "speaker_embedding": 2}
"""Intra-op threads of each model's sessions on a CPU."""

ENGINE_CACHE: Final = "/var/cache/voice-analytics"
"""Folder in the serving container where onnxruntime keeps the TensorRT engine of Whisper's encoder;
on a volume it outlives the container, and a restart doesn't build the engine anew."""

WARMUP_SECONDS: Final = 2


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model, without its batch dimension; -1 is any size."""

    name: str
    data_type: str
    dims: tuple[int, ...]

    def as_field(self) -> dict[str, Value]:
        return {
            "name": self.name,
            "data_type": Symbol(self.data_type),
            "dims": list(self.dims),
        }


AUDIO: Final = Tensor("AUDIO", "TYPE_FP32", (-1,))
OPTIONS: Final = Tensor("OPTIONS", "TYPE_STRING", (1,))
TRANSCRIPT: Final = Tensor("TRANSCRIPT", "TYPE_STRING", (1,))
LOGITS: Final = Tensor("LOGITS", "TYPE_FP32", (-1,))
EMBEDDING: Final = Tensor("EMBEDDING", "TYPE_FP32", (-1,))
EMOTION_AUDIO: Final = Tensor("EMOTION_AUDIO", "TYPE_FP32", (-1,))
SPEAKER_AUDIO: Final = Tensor("SPEAKER_AUDIO", "TYPE_FP32", (-1,))

_LEAF_OUTPUTS: Final = {"emotion": LOGITS, "speaker_embedding": EMBEDDING}

_EXECUTION_PROVIDERS: Final[Mapping[Target, str]] = {
    "embedded": "cpu",
    "onnxruntime": "cuda",
    "tensorrt": "tensorrt",
}


def render(model: str, target: Target) -> str:
    """The text of a model's config.pbtxt for a target."""
    if model == ENSEMBLE_NAME:
        message = _ensemble()
    elif model == "whisper":
        message = _whisper(target)
    else:
        message = _leaf(model, target)
    header = f"# Written by: python -m export render --target {target}\n"
    return header + pbtxt.render(message)


def write_all(repository: Path, target: Target) -> list[Path]:
    """Writes every model's config.pbtxt for a target, and the ensemble's empty version folder."""
    written = []
    for model in ALL_MODELS:
        path = repository / model / FILENAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(model, target))
        written.append(path)
    (repository / ENSEMBLE_NAME / "1").mkdir(exist_ok=True)
    return written


def rendered_target(repository: Path, model: str) -> str | None:
    """The target that a repository's config was rendered for; None when there is no config or no
    such note."""
    path = repository / model / FILENAME
    first_line = path.read_text().partition("\n")[0] if path.exists() else ""
    _, found, target = first_line.partition("render --target ")
    return target if found else None


def _whisper(target: Target) -> dict[str, Value]:
    return {
        "name": "whisper",
        "backend": "python",
        "max_batch_size": WHISPER_MAX_BATCH,
        "input": [AUDIO.as_field() | {"allow_ragged_batch": True}, OPTIONS.as_field()],
        "output": [TRANSCRIPT.as_field()],
        "dynamic_batching": _batching(WHISPER_QUEUE_DELAY_US),
        **_placement("whisper", target),
        "parameters": _whisper_parameters(target),
    }


def _whisper_parameters(target: Target) -> list[Value]:
    parameters = [
        _parameter("execution_provider", _EXECUTION_PROVIDERS[target]),
        _parameter("intra_op_thread_count", CPU_THREADS["whisper"]),
    ]
    if target == "tensorrt":
        parameters.append(_parameter("engine_cache", ENGINE_CACHE))
    return list(parameters)


def _leaf(model: str, target: Target) -> dict[str, Value]:
    return {
        "name": model,
        **_leaf_backend(target),
        "max_batch_size": LEAF_MAX_BATCH[target],
        "input": [AUDIO.as_field()],
        "output": [_LEAF_OUTPUTS[model].as_field()],
        "dynamic_batching": _batching(LEAF_QUEUE_DELAY_US),
        **_placement(model, target),
        **_leaf_parameters(model, target),
        "model_warmup": [_warmup()],
    }


def _batching(delay_us: int) -> dict[str, Value]:
    """Requests are merged; what is asked again comes first (`api/priority.py`)."""
    return {
        "max_queue_delay_microseconds": delay_us,
        "priority_levels": 2,
        "default_priority_level": 2,
    }


def _leaf_backend(target: Target) -> dict[str, Value]:
    if target == "tensorrt":
        return {"backend": "tensorrt", "default_model_filename": "model.plan"}
    return {"backend": "onnxruntime", "default_model_filename": "model.onnx"}


def _leaf_parameters(model: str, target: Target) -> dict[str, Value]:
    """CUDA's exhaustive search for convolution algorithms, the default, starts anew for each length
    and batch size."""
    if target == "tensorrt":
        return {}
    if target == "onnxruntime":
        return {"parameters": [_parameter("cudnn_conv_algo_search", 1)]}
    return {"parameters": [_parameter("intra_op_thread_count", CPU_THREADS[model])]}


def _placement(model: str, target: Target) -> dict[str, Value]:
    kind = "KIND_CPU" if target == "embedded" else "KIND_GPU"
    return {
        "instance_group": [{"name": f"{model}_0", "count": 1, "kind": Symbol(kind)}],
        "version_policy": {"latest": {"num_versions": 1}},
    }


def _warmup() -> dict[str, Value]:
    silence: dict[str, Value] = {
        "data_type": Symbol("TYPE_FP32"),
        "dims": [WARMUP_SECONDS * SAMPLE_RATE_HZ],
        "zero_data": True,
    }
    return {
        "name": "silence",
        "batch_size": 1,
        "inputs": {"key": AUDIO.name, "value": silence},
    }


def _ensemble() -> dict[str, Value]:
    """Batch size 1: an ensemble's steps batch across requests by themselves, and a live utterance
    comes alone."""
    same = {tensor.name: tensor.name for tensor in (AUDIO, OPTIONS)}
    return {
        "name": ENSEMBLE_NAME,
        "platform": "ensemble",
        "max_batch_size": 1,
        "input": [tensor.as_field() for tensor in (AUDIO, OPTIONS, EMOTION_AUDIO, SPEAKER_AUDIO)],
        "output": [tensor.as_field() for tensor in (TRANSCRIPT, LOGITS, EMBEDDING)],
        "ensemble_scheduling": {
            "step": [
                _step("whisper", same, TRANSCRIPT),
                _step("emotion", {AUDIO.name: EMOTION_AUDIO.name}, LOGITS),
                _step("speaker_embedding", {AUDIO.name: SPEAKER_AUDIO.name}, EMBEDDING),
            ]
        },
    }


def _step(model: str, inputs: Mapping[str, str], output: Tensor) -> dict[str, Value]:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": name, "value": source} for name, source in inputs.items()],
        "output_map": [{"key": output.name, "value": output.name}],
    }


def _parameter(key: str, value: str | int) -> dict[str, Value]:
    return {"key": key, "value": {"string_value": str(value)}}
