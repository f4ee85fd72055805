"""Silero's voice activity network as matrix products: the same answers, three times as fast.

    python -m export.voice_activity SOURCE OUT

SOURCE is `silero_vad_16k_sequence.onnx` of the PyPI package `silero-vad` 6.2.3 (MIT), OUT what the
API ships as `api/assets/silero_vad_16k.onnx`. The published graph consists of convolutions over the
four steps of a frame, which are too short for ONNX Runtime's kernels: its time goes into laying out
memory. Here each convolution gathers what it looks at and is one product over all frames, with
the published weights:

    frame (576) → reflected at its end → 4 windows of 256 → magnitude of 129 bins
    → 4 steps of 128 → 2 of 64 → 1 of 64 → 1 of 128 → LSTM over the frames → probability

Where the window of a convolution lies beyond the steps there are, its weights are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_REFLECTED: Final = 64
"""Samples that the published graph mirrors at a frame's end, so that four windows fit."""

_HOP: Final = 128
_BINS: Final = 129
_LSTM: Final = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
"""Input weights, recurrent weights and biases, by the names in the published file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite a file."""
    parser = argparse.ArgumentParser(
        prog="python -m export.voice_activity", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the published file")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    options = parser.parse_args(arguments)
    onnx.save(as_products(onnx.load(str(options.source))), str(options.out))


def as_products(published: onnx.ModelProto) -> onnx.ModelProto:
    """The published network, with products in place of its convolutions."""
    weights = {w.name: numpy_helper.to_array(w) for w in published.graph.initializer}
    graph = _Graph()
    steps = _encoded(graph, _magnitudes(graph, weights), weights)
    _answer(graph, steps, weights)
    made = helper.make_graph(
        graph.nodes,
        "silero_vad_16k",
        published.graph.input,
        published.graph.output,
        graph.constants,
    )
    model = helper.make_model(
        made, opset_imports=published.opset_import, ir_version=published.ir_version
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; gives the output's name."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def cut(self, value: str, start: int, end: int, axis: int = 1) -> str:
        return self.add("Slice", value, self.numbers(start), self.numbers(end), self.numbers(axis))

    def reshape(self, value: str, *shape: int) -> str:
        return self.add("Reshape", value, self.numbers(*shape))

    def relu_of_product(
        self, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        """`relu(value @ weight + bias)`, weight (inputs, outputs)."""
        product = self.add("MatMul", value, self.constant(weight))
        return self.add("Relu", self.add("Add", product, self.constant(bias)))


def _magnitudes(graph: _Graph, weights: dict[str, NDArray[np.float32]]) -> str:
    """(frames, 576) → (frames, 4, 129): four windows of two hops each, and their spectrum."""
    padded = graph.add("Pad", "input", graph.numbers(0, 0, 0, _REFLECTED), mode="reflect")
    hops = graph.reshape(padded, -1, 5, _HOP)
    windows = graph.add("Concat", graph.cut(hops, 0, 4), graph.cut(hops, 1, 5), axis=2)
    basis = weights["stft.forward_basis_buffer"][:, 0, :]  # (2 * 129, 256)
    parts = [
        graph.add("MatMul", windows, graph.constant(half.T))
        for half in (basis[:_BINS], basis[_BINS:])
    ]
    squares = [graph.add("Mul", part, part) for part in parts]
    return graph.add("Sqrt", graph.add("Add", *squares))


def _encoded(graph: _Graph, steps: str, weights: dict[str, NDArray[np.float32]]) -> str:
    """(frames, 4, 129) → (frames, 128): four convolutions of three taps over the steps."""
    taps = [weights[f"encoder.{i}.weight"].transpose(2, 1, 0) for i in range(4)]  # (3, in, out)
    bias = [weights[f"encoder.{i}.bias"] for i in range(4)]
    wide = [tap.shape[2] for tap in taps]

    steps = graph.add("Pad", steps, graph.numbers(0, 1, 0, 0, 1, 0))
    seen = graph.add("Concat", *(graph.cut(steps, i, i + 4) for i in range(3)), axis=2)
    steps = graph.relu_of_product(seen, taps[0].reshape(-1, wide[0]), bias[0])

    # In strides of two over four steps: (nothing, 0, 1) and (1, 2, 3).
    steps = graph.add("Pad", steps, graph.numbers(0, 1, 0, 0, 0, 0))
    row = graph.reshape(steps, -1, 5 * wide[0])
    pairs = (graph.cut(row, 0, 3 * wide[0]), graph.cut(row, 2 * wide[0], 5 * wide[0]))
    seen = graph.reshape(graph.add("Concat", *pairs, axis=1), -1, 2, 3 * wide[0])
    steps = graph.relu_of_product(seen, taps[1].reshape(-1, wide[1]), bias[1])

    # Of two steps one is left, which sees (nothing, 0, 1); and the last sees only itself.
    seen = graph.reshape(steps, -1, 2 * wide[1])
    step = graph.relu_of_product(seen, taps[2][1:].reshape(-1, wide[2]), bias[2])
    return graph.relu_of_product(step, taps[3][1], bias[3])


def _answer(graph: _Graph, steps: str, weights: dict[str, NDArray[np.float32]]) -> None:
    """(frames, 128), h and c → speech_probs (frames,), hn and cn (1, 1, 128)."""
    recurrent = [graph.constant(weights[name]) for name in _LSTM]
    size = weights[_LSTM[1]].shape[2]
    sequence = graph.add("Unsqueeze", steps, graph.numbers(1))
    graph.nodes.append(
        helper.make_node(
            "LSTM",
            [sequence, *recurrent, "", "h", "c"],
            ["heard", "hn", "cn"],
            hidden_size=size,
        )
    )
    heard = graph.add("Relu", graph.reshape("heard", -1, size))
    product = graph.add("MatMul", heard, graph.constant(weights["output.weight"][:, :, 0].T))
    biased = graph.add("Add", product, graph.constant(weights["output.bias"]))
    probabilities = graph.add("Sigmoid", biased)
    shape = graph.numbers(-1)
    graph.nodes.append(helper.make_node("Reshape", [probabilities, shape], ["speech_probs"]))


if __name__ == "__main__":
    main()
