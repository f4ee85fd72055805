"""An ONNX graph on the CPU, in OpenVINO: what the backend serves, and the export holds against
PyTorch.

It multiplies in bfloat16 and int8 where the processor can, if the export's precision allows it. It
needs numpy and openvino only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it reports each import

import openvino  # noqa: E402
from openvino import opset13  # noqa: E402

FEATURES: Final = "FEATURES"
"""Up to a value of this name a graph is always computed in float32. Of a spectrum whose bands lie
80 dB apart bfloat16's 48 dB leave nothing: rounding becomes features where a band is empty."""

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
"""Tensors by name, each with a batch dimension of 1."""

_Lane = list[openvino.InferRequest]
"""The parts of a graph, one after the other."""


class CpuGraph:
    """Runs rows side by side, each alone on a thread: no row's numbers depend on its neighbours,
    and on a CPU a batch gains nothing from being one product."""

    def __init__(self, path: Path, precision: str, threads: int) -> None:
        """
        Args:
            path: of the ONNX file.
            precision: of the export; float32 for what this module doesn't know to be coarser.
            threads: rows that run at once.

        Raises:
            RuntimeError: the file is no graph that OpenVINO can read.
        """
        graph = openvino.Core().read_model(path)
        self.inputs = [tensor.any_name for tensor in graph.inputs]
        self.outputs = [tensor.any_name for tensor in graph.outputs]
        self._threads = threads
        coarser = _COARSER.get(precision)
        if coarser is None:
            self._parts = [(graph, _EXACT)]
        elif _value(graph, FEATURES) is None:
            self._parts = [(graph, coarser)]
        else:
            self._parts = [(_up_to_features(path), _EXACT), (_from_features(path), coarser)]
        self._lanes = self._open()

    def run(self, rows: Sequence[Row]) -> list[Row | Exception]:
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

    def _open(self) -> list[_Lane]:
        """Threads aren't pinned: the other models' are on the same cores."""
        shared = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self._threads,
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": _KNOWN_KERNELS,
        }
        compiled = [
            openvino.compile_model(graph, "CPU", shared | settings)
            for graph, settings in self._parts
        ]
        return [[part.create_infer_request() for part in compiled] for _ in range(self._threads)]

    def _again(self, row: Row) -> Row | Exception:
        """What failed, once more and alone: after a clip that is too short for the graph OpenVINO
        fails on every later one, too, until the model is opened anew."""
        self._lanes = self._open()
        (answer,) = self._side_by_side([row])
        if isinstance(answer, Exception):
            self._lanes = self._open()
        return answer

    def _side_by_side(self, rows: Sequence[Row]) -> list[Row | Exception]:
        known: list[Row | Exception] = [*rows]
        for part in range(len(self._parts)):
            requests = [lane[part] for lane in self._lanes[: len(rows)]]
            begun = [_begun(request, row) for request, row in zip(requests, known, strict=True)]
            known = [_ended(request, row) for request, row in zip(requests, begun, strict=True)]
        return [
            row if isinstance(row, Exception) else {name: row[name] for name in self.outputs}
            for row in known
        ]


def _begun(request: openvino.InferRequest, row: Row | Exception) -> Row | Exception:
    """The row, once its part of the graph runs, or why it doesn't."""
    if isinstance(row, Exception):
        return row
    try:
        request.start_async(
            {tensor.any_name: row[tensor.any_name] for tensor in request.model_inputs},
            share_inputs=True,
        )
    except RuntimeError as error:  # what OpenVINO says of a row that the graph can't take
        return error
    return row


def _ended(request: openvino.InferRequest, row: Row | Exception) -> Row | Exception:
    """The row with what its part of the graph adds."""
    if isinstance(row, Exception):
        return row
    try:
        request.wait()
    except RuntimeError as error:
        return error
    made = {t.any_name: request.get_tensor(t).data.copy() for t in request.model_outputs}
    return row | made


def _up_to_features(path: Path) -> openvino.Model:
    graph = openvino.Core().read_model(path)
    return openvino.Model([_value(graph, FEATURES)], graph.get_parameters(), "features")


def _from_features(path: Path) -> openvino.Model:
    """Takes the features, and the graph's own inputs, whose length it may ask for."""
    graph = openvino.Core().read_model(path)
    features = _value(graph, FEATURES)
    given = opset13.parameter(features.get_partial_shape(), features.get_element_type(), FEATURES)
    for reader in features.get_target_inputs():
        reader.replace_source_output(given.output(0))
    features.set_names(set())
    given.output(0).set_names({FEATURES})
    return openvino.Model(graph.get_results(), [given, *graph.get_parameters()], "rest")


def _value(graph: openvino.Model, name: str) -> Any:
    """The value of that name in a graph, or None."""
    outputs = (output for node in graph.get_ordered_ops() for output in node.outputs())
    return next((output for output in outputs if name in output.get_names()), None)
