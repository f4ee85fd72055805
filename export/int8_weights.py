"""Matrices of a graph stored as int8, one scale for each output channel.

A `DequantizeLinear` stands between each matrix and its product, so that the file says what the
numbers mean and any runtime can compute with them in floating point. OpenVINO takes the pair for
what it is, an int8 matrix, and multiplies in int8 what it quantises of the activations meanwhile.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

_LARGEST: Final = 127


def store_int8(model: onnx.ModelProto) -> None:
    """Rewrites the constant right-hand matrices of all `MatMul`s in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    matrices = {
        node.input[1]
        for node in graph.node
        if node.op_type == "MatMul"
        and node.input[1] in constants
        and len(constants[node.input[1]].dims) == 2
    }
    dequantized = [_stored(graph, constants[name]) for name in sorted(matrices)]
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            node.input[1] = f"{node.input[1]}.floats"
    nodes = [*dequantized, *graph.node]
    wanted = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def _stored(graph: onnx.GraphProto, matrix: onnx.TensorProto) -> onnx.NodeProto:
    """Adds the matrix (inputs, outputs) as int8; the node that makes floats of it again."""
    values = numpy_helper.to_array(matrix).astype(np.float32)
    scales = np.abs(values).max(axis=0) / np.float32(_LARGEST)
    scales[scales == 0] = 1.0
    rounded = np.round(values / scales).astype(np.int8)
    name = matrix.name
    graph.initializer.append(numpy_helper.from_array(rounded, f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
    return helper.make_node(
        "DequantizeLinear",
        [f"{name}.int8", f"{name}.scales"],
        [f"{name}.floats"],
        name=f"{name}/DequantizeLinear",
        axis=1,
    )
