"""A Triton backend in Python that serves `model.onnx` on the CPU, named like NVIDIA's own
`onnxruntime` backend.

The tritonserver of the PyPI wheel carries the python backend only. Put into its backend directory
as `onnxruntime/model.py` (a "python-based backend"), this file serves the very model folders that
the real backend serves in NVIDIA's container: same `backend: "onnxruntime"`, same `model.onnx`,
same `intra_op_thread_count` parameter.

It runs inside Triton's python stub and needs numpy and onnxruntime only.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

DEFAULT_THREADS = 2
"""Intra-op threads of a session when the config names none: with more, two models on a small
machine fight for cores."""

MAX_VALUES_PER_RUN = 1 << 20
"""Input values of one run, 65 s of audio. A larger batch is run in parts: a CPU gains nothing from
more, and wav2vec2-base's first activations take 400 MB per minute of audio."""

Feed = dict[str, NDArray[Any]]


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
        self._session = _open_session(folder / filename, _thread_count(config))
        _check_names("inputs", self._inputs, [node.name for node in self._session.get_inputs()])
        _check_names("outputs", self._outputs, [node.name for node in self._session.get_outputs()])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers all requests of a batch, those of equal shapes in one run; a failure answers only
        whom it concerns."""
        feeds: dict[int, Feed] = {}
        responses: list[Any] = [None] * len(requests)
        for index, request in enumerate(requests):
            if request.is_cancelled():
                responses[index] = _failure("cancelled", pb_utils.TritonError.CANCELLED)
            else:
                feeds[index] = self._read(request)
        for group in _equal_shapes(feeds):
            for index, response in zip(group, self._run([feeds[i] for i in group]), strict=True):
                responses[index] = response
        return responses

    def _read(self, request: Any) -> Feed:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }

    def _run(self, feeds: Sequence[Feed]) -> list[Any]:
        merged = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        try:
            outputs = self._run_in_parts(merged)
        except Exception as error:  # onnxruntime's errors share no narrower base class
            return [_failure(str(error), pb_utils.TritonError.INVALID_ARG) for _ in feeds]
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        parts = [np.split(output, ends) for output in outputs]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(part[row]))
                    for name, part in zip(self._outputs, parts, strict=True)
                ]
            )
            for row in range(len(feeds))
        ]

    def _run_in_parts(self, feed: Feed) -> list[NDArray[Any]]:
        first = feed[self._inputs[0]]
        rows = max(1, MAX_VALUES_PER_RUN // max(1, first[0].size))
        parts = [
            self._session.run(
                self._outputs, {name: array[start : start + rows] for name, array in feed.items()}
            )
            for start in range(0, len(first), rows)
        ]
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _equal_shapes(feeds: dict[int, Feed]) -> list[list[int]]:
    """Groups request indices by everything but the batch dimension, which alone may differ within a
    run."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
    for index, feed in feeds.items():
        groups[tuple(array.shape[1:] for array in feed.values())].append(index)
    return list(groups.values())


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Lengths vary from request to request: a memory plan is kept per shape and would pile up.
    options.enable_mem_pattern = False
    # An idle session that spins takes the cores that the other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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
