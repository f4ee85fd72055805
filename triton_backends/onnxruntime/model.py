"""A Triton backend in Python that serves `model.onnx` on the CPU, named like NVIDIA's own
`onnxruntime` backend.

The tritonserver of the PyPI wheel carries the python backend only. Put into its backend directory
as `onnxruntime/model.py` (a "python-based backend"), this file serves the very model folders that
the real backend serves in NVIDIA's container: same `backend: "onnxruntime"`, same `model.onnx`,
same `intra_op_thread_count` parameter.

OpenVINO computes, since it multiplies in bfloat16 and int8 where the processor can. Whether it may
is the export's decision: the `precision` in the version's manifest.json. Rows of a batch are run
side by side, each alone on a thread: no row's numbers depend on its neighbours, and on a CPU a
batch gains nothing from being one product.

It runs inside Triton's python stub and needs numpy and openvino only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it reports each import

import openvino  # noqa: E402

DEFAULT_THREADS: Final = 2
"""Threads of a model when the config names none: with more, two models on a small machine fight for
cores."""

_COARSER: Final[dict[str, dict[str, Any]]] = {
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 512},
}
"""What a precision lets OpenVINO do; of 512 activations in a row each 8-bit group has its scale."""

_EXACT: Final[dict[str, Any]] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}

_KNOWN_KERNELS: Final = 1_000
"""Kernels that are kept, some hundred for each length of the audio. The service asks for one length
only; a caller who doesn't pays some 10 ms for a new one and no memory in the long run."""

Row = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Rows:
    """A request's rows, each with a batch dimension of 1; `place` is its index in the batch."""

    place: int
    rows: list[Row]


class TritonPythonModel:
    """One instance of one version of one ONNX model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the version's `model.onnx`.

        Raises:
            TritonModelException: the graph's tensors aren't those of the config; the load fails.
        """
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        filename = config.get("default_model_filename") or "model.onnx"
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._threads = _thread_count(config)
        self._settings = _settings(folder, self._threads)
        self._graph = openvino.Core().read_model(folder / filename)
        _check_names("inputs", self._inputs, [tensor.any_name for tensor in self._graph.inputs])
        _check_names("outputs", self._outputs, [tensor.any_name for tensor in self._graph.outputs])
        self._lanes = self._open()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers all requests of a batch; a failure answers only whom it concerns."""
        responses: list[Any] = [None] * len(requests)
        asked: list[_Rows] = []
        for place, request in enumerate(requests):
            if request.is_cancelled():
                responses[place] = _failure("cancelled", pb_utils.TritonError.CANCELLED)
            else:
                asked.append(_Rows(place, self._read(request)))
        answers = iter(self._run([row for own in asked for row in own.rows]))
        for own in asked:
            responses[own.place] = self._respond([next(answers) for _ in own.rows])
        return responses

    def _read(self, request: Any) -> list[Row]:
        arrays = {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }
        count = len(arrays[self._inputs[0]])
        return [
            {name: array[row : row + 1] for name, array in arrays.items()} for row in range(count)
        ]

    def _open(self) -> list[openvino.InferRequest]:
        model = openvino.compile_model(self._graph, "CPU", self._settings)
        return [model.create_infer_request() for _ in range(self._threads)]

    def _run(self, rows: Sequence[Row]) -> list[Row | Exception]:
        """Each row's outputs, or why there are none."""
        answers: list[Row | Exception] = []
        for first in range(0, len(rows), self._threads):
            together = rows[first : first + self._threads]
            found = self._side_by_side(together)
            answers += [
                self._again(row) if isinstance(answer, Exception) else answer
                for row, answer in zip(together, found, strict=True)
            ]
        return answers

    def _again(self, row: Row) -> Row | Exception:
        """What failed, once more and alone: after a clip that is too short for the graph OpenVINO
        fails on every later one, too, until the model is opened anew."""
        self._lanes = self._open()
        (answer,) = self._side_by_side([row])
        if isinstance(answer, Exception):
            self._lanes = self._open()
        return answer

    def _side_by_side(self, rows: Sequence[Row]) -> list[Row | Exception]:
        lanes = self._lanes[: len(rows)]
        refused = [self._start(lane, row) for lane, row in zip(lanes, rows, strict=True)]
        return [error or self._answer(lane) for lane, error in zip(lanes, refused, strict=True)]

    def _start(self, lane: openvino.InferRequest, row: Row) -> Exception | None:
        try:
            lane.start_async(row, share_inputs=True)
        except RuntimeError as error:  # what OpenVINO says of a row that the graph can't take
            return error
        return None

    def _answer(self, lane: openvino.InferRequest) -> Row | Exception:
        try:
            lane.wait()
        except RuntimeError as error:
            return error
        return {name: lane.get_tensor(name).data.copy() for name in self._outputs}

    def _respond(self, answers: Sequence[Row | Exception]) -> Any:
        rows: list[Row] = []
        for answer in answers:
            if isinstance(answer, Exception):
                return _failure(str(answer), pb_utils.TritonError.INVALID_ARG)
            rows.append(answer)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.concatenate([row[name] for row in rows]))
                for name in self._outputs
            ]
        )


def _settings(folder: Path, threads: int) -> dict[str, Any]:
    """Threads aren't pinned: the other models' are on the same cores."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,
        "CPU_RUNTIME_CACHE_CAPACITY": _KNOWN_KERNELS,
        **_COARSER.get(_precision(folder), _EXACT),
    }


def _precision(folder: Path) -> str:
    """The precision that the version was exported in; a graph without a manifest is taken as it
    is."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return "fp32"
    return str(json.loads(manifest.read_text(encoding="utf-8"))["precision"])


def _thread_count(config: dict[str, Any]) -> int:
    parameter = config.get("parameters", {}).get("intra_op_thread_count", {})
    return int(parameter.get("string_value") or DEFAULT_THREADS)


def _check_names(kind: str, configured: Sequence[str], in_graph: Sequence[str]) -> None:
    if set(configured) != set(in_graph):
        raise pb_utils.TritonModelException(
            f"config.pbtxt names the {kind} {sorted(configured)}, model.onnx has {sorted(in_graph)}"
        )


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
