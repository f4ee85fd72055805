"""A Triton backend in Python that serves `model.onnx` on the CPU, named like NVIDIA's own
`onnxruntime` backend.

The tritonserver of the PyPI wheel carries the python backend only. Put into its backend directory
as `onnxruntime/model.py` (a "python-based backend"), this file serves the very model folders that
the real backend serves in NVIDIA's container: same `backend: "onnxruntime"`, same `model.onnx`,
same `intra_op_thread_count` parameter.

OpenVINO computes (`cpu_graph.py` beside this file), and what it may round is the export's decision:
the `precision` in the version's manifest.json.

It runs inside Triton's python stub and needs numpy and openvino only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from triton_backends.onnxruntime.cpu_graph import CpuGraph, Row
else:
    from cpu_graph import CpuGraph, Row  # Triton puts this folder on the path

DEFAULT_THREADS: Final = 2
"""Threads of a model when the config names none: with more, two models on a small machine fight for
cores."""


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
        self._graph = CpuGraph(folder / filename, _precision(folder), _thread_count(config))
        _check_names("inputs", config["input"], self._graph.inputs)
        _check_names("outputs", config["output"], self._graph.outputs)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers all requests of a batch; a failure answers only whom it concerns."""
        responses: list[Any] = [None] * len(requests)
        asked: list[_Rows] = []
        for place, request in enumerate(requests):
            if request.is_cancelled():
                responses[place] = _failure("cancelled", pb_utils.TritonError.CANCELLED)
            else:
                asked.append(_Rows(place, self._read(request)))
        answers = iter(self._graph.run([row for own in asked for row in own.rows]))
        for own in asked:
            responses[own.place] = self._respond([next(answers) for _ in own.rows])
        return responses

    def _read(self, request: Any) -> list[Row]:
        arrays = {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._graph.inputs
        }
        count = len(arrays[self._graph.inputs[0]])
        return [
            {name: array[row : row + 1] for name, array in arrays.items()} for row in range(count)
        ]

    def _respond(self, answers: Sequence[Row | Exception]) -> Any:
        rows: list[Row] = []
        for answer in answers:
            if isinstance(answer, Exception):
                return _failure(str(answer), pb_utils.TritonError.INVALID_ARG)
            rows.append(answer)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.concatenate([row[name] for row in rows]))
                for name in self._graph.outputs
            ]
        )


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


def _check_names(
    kind: str, configured: Sequence[Mapping[str, Any]], in_graph: Sequence[str]
) -> None:
    names = sorted(tensor["name"] for tensor in configured)
    if names != sorted(in_graph):
        raise pb_utils.TritonModelException(
            f"config.pbtxt names the {kind} {names}, model.onnx has {sorted(in_graph)}"
        )


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
