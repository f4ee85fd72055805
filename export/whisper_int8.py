"""Whisper's graphs with int8 weights, for CPUs.

The encoder's weights are int8; OpenVINO quantises its activations as they come, clip by clip, and
computes the rest in bfloat16 where the processor can. In the decoder every row has a scale of its
own: it is divided by its largest number, quantised with a constant step, multiplied as integers,
whose sums are exact in any order, and multiplied by that number again. A row's logits are bit for
bit the same alone and in any batch.

What is read most, the keys and values of cross-attention, is int8 too: see
`whisper_int8_attention`. What else there is, is in `KEPT_FLOAT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.int8_weights import store_int8
from export.whisper_int8_attention import hand_over_int8, read_int8

KEPT_FLOAT: Final = (
    "log-mel",
    "convolutions",
    "norms",
    "activations between products",
    "encoder self-attention",
    "decoder self-attention and its cache",
)
"""What the int8 graphs don't compute in int8; the manifest says so."""

_CONTRIB: Final = "com.microsoft"
_ZERO_POINT: Final = 128
_LARGEST: Final = 127
_SMALLEST_ROW: Final = 1e-12
"""Added to a row's largest number, so that nothing is divided by zero."""


def quantize_encoder(source: Path, target: Path, external_data: bool) -> None:
    """Writes `source` with int8 weights, one scale per output channel, and int8 keys and values."""
    model = onnx.load(source)
    store_int8(model)
    hand_over_int8(model)
    _save(model, target, external_data)


def quantize_decoder(source: Path, target: Path, external_data: bool) -> None:
    """Writes `source` with its matrices in int8, products and token look-ups alike, and with
    cross-attention over int8 keys and values."""
    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    packed: dict[str, _Packed] = {}
    for node in graph.node:
        weight = _weight(node, constants)
        if weight is not None:
            packed.setdefault(node.input[1], _pack(node.input[1], weight))
    nodes = [new for node in graph.node for new in _replaced(node, packed)]
    del graph.node[:]
    graph.node.extend(nodes)
    shared = [
        numpy_helper.from_array(np.array(value), name)
        for name, value in (
            ("row_smallest", np.float32(_SMALLEST_ROW)),
            ("row_step", np.float32(1 / _LARGEST)),
            ("row_zero_point", np.uint8(_ZERO_POINT)),
            ("row_axis", np.array([-1], np.int64)),
        )
    ]
    known = [*graph.initializer, *shared, *(t for pack in packed.values() for t in pack.tensors)]
    wanted = {name for node in nodes for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(tensor for tensor in known if tensor.name in wanted)
    if all(opset.domain != _CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    read_int8(model)
    _save(model, target, external_data)


@dataclass(frozen=True)
class _Packed:
    """A matrix in int8.

    Attributes:
        tensors: int8 (inputs, outputs) and float32 scales (outputs,).
    """

    inputs: int
    tensors: tuple[onnx.TensorProto, onnx.TensorProto]

    @property
    def names(self) -> tuple[str, str]:
        """The names of the tensors."""
        return self.tensors[0].name, self.tensors[1].name


def _save(model: onnx.ModelProto, target: Path, external_data: bool) -> None:
    weights = target.with_name(f"{target.name}.data")
    weights.unlink(missing_ok=True)  # onnx would write behind what is there
    onnx.save(model, target, save_as_external_data=external_data, location=weights.name)


def _weight(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> NDArray[np.float32] | None:
    """The matrix (inputs, outputs) of a product that can be quantised, else None."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return None
    matrix: NDArray[np.float32] = numpy_helper.to_array(constants[node.input[1]])
    if node.op_type == "Gemm":
        if len(node.input) > 2 or not _attribute(node, "transB"):
            return None
        matrix = matrix.T
    return matrix if matrix.ndim == 2 else None


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _pack(name: str, weight: NDArray[np.float32]) -> _Packed:
    scales = np.abs(weight).max(axis=0).astype(np.float32) / _LARGEST
    scales[scales == 0] = 1.0
    rounded = np.ascontiguousarray(np.round(weight / scales).astype(np.int8))
    return _Packed(
        weight.shape[0],
        (
            numpy_helper.from_array(rounded, f"{name}.int8"),
            numpy_helper.from_array(scales, f"{name}.scales"),
        ),
    )


def _replaced(node: onnx.NodeProto, packed: dict[str, _Packed]) -> list[onnx.NodeProto]:
    """The nodes that take a node's place: those of a quantised matrix, else the node itself."""
    if node.op_type == "Gather" and node.input[0] in packed:
        return _look_up(node, packed[node.input[0]])
    if node.op_type in ("MatMul", "Gemm") and node.input[1] in packed:
        return _product(node, packed[node.input[1]])
    return [node]


def _product(node: onnx.NodeProto, matrix: _Packed) -> list[onnx.NodeProto]:
    """A row at a time: (…, inputs) → (…, outputs)."""
    source, name, make = node.input[0], node.name, helper.make_node
    weight, scales = matrix.names
    return [
        make("Abs", [source], [f"{name}.size"]),
        make("ReduceMax", [f"{name}.size", "row_axis"], [f"{name}.highest"], keepdims=1),
        make("Add", [f"{name}.highest", "row_smallest"], [f"{name}.range"]),
        make("Div", [source, f"{name}.range"], [f"{name}.unit"]),
        make("QuantizeLinear", [f"{name}.unit", "row_step", "row_zero_point"], [f"{name}.bytes"]),
        make(
            "MatMulIntegerToFloat",
            [f"{name}.bytes", weight, "row_step", scales, "row_zero_point"],
            [f"{name}.product"],
            domain=_CONTRIB,
        ),
        make("Mul", [f"{name}.product", f"{name}.range"], list(node.output)),
    ]


def _look_up(node: onnx.NodeProto, matrix: _Packed) -> list[onnx.NodeProto]:
    """Rows of the transposed matrix as float32: (clips, group, length) indices → (…, inputs)."""
    weight, scales = matrix.names
    indices, name, make = node.input[1], node.name, helper.make_node
    axis = numpy_helper.from_array(np.array([-1], np.int64))
    return [
        make("Gather", [weight, indices], [f"{name}.bytes"], axis=1),
        make("Transpose", [f"{name}.bytes"], [f"{name}.rows"], perm=[1, 2, 3, 0]),
        make("Cast", [f"{name}.rows"], [f"{name}.floats"], to=onnx.TensorProto.FLOAT),
        make("Gather", [scales, indices], [f"{name}.steps"], axis=0),
        make("Constant", [], [f"{name}.axis"], value=axis),
        make("Unsqueeze", [f"{name}.steps", f"{name}.axis"], [f"{name}.scales"]),
        make("Mul", [f"{name}.floats", f"{name}.scales"], list(node.output)),
    ]
