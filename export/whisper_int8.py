"""Whisper's graphs with int8 weights, for CPUs.

The encoder is quantised dynamically: its activations get one scale per run. That is harmless there,
since a CPU encodes clip by clip. In the decoder it would let the rows of a batch change each
other's tokens, so its weights and activations are quantised in blocks of a row, by onnxruntime's
MatMulNBits: measured on whisper-base's decoder, a row's logits are bit for bit the same alone and
in batches of up to 16, at 6.0, 13.7 and 25.3 ms per step of 1, 4 and 8 rows on one core, against
15.2, 23.6 and 32.2 in float32 and 7.6, 15.8 and 22.4 quantised dynamically.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.quiet import quiet

BLOCK: Final = 64
"""Weights that share a scale. 32 is slower; at 128 onnxruntime takes another path from eight rows
on, and a row's answer depends on its company again. Every Whisper's widths are multiples of it."""

_CONTRIB: Final = "com.microsoft"
_ZERO_POINT: Final = 128
_LARGEST: Final = 127
_INT8_ACTIVATIONS: Final = 4
"""MatMulNBits' `accuracy_level` for int8 products."""


def quantize_encoder(source: Path, target: Path, external_data: bool) -> None:
    """Writes `source` with int8 weights, one scale per output channel."""
    with quiet():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            use_external_data_format=external_data,
            extra_options={
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                "MatMulConstBOnly": True,
            },
        )


def quantize_decoder(source: Path, target: Path, external_data: bool) -> None:
    """Writes `source` with its matrices in int8, products and token look-ups alike."""
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
    known = [*graph.initializer, *(tensor for pack in packed.values() for tensor in pack.tensors)]
    wanted = {name for node in nodes for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(tensor for tensor in known if tensor.name in wanted)
    if all(opset.domain != _CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    onnx.save(model, target, save_as_external_data=external_data, location=f"{target.name}.data")


@dataclass(frozen=True)
class _Packed:
    """A matrix (outputs, inputs) in int8.

    Attributes:
        tensors: bytes (outputs, blocks, BLOCK) around the zero point, float32 scales (outputs *
            blocks,), and for look-ups the scales (outputs, blocks, 1) and the zero point.
    """

    outputs: int
    inputs: int
    tensors: tuple[onnx.TensorProto, ...]

    @property
    def names(self) -> list[str]:
        """The names of the tensors."""
        return [tensor.name for tensor in self.tensors]


def _weight(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> NDArray[np.float32] | None:
    """The matrix (outputs, inputs) of a product that can be quantised, else None."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return None
    matrix: NDArray[np.float32] = numpy_helper.to_array(constants[node.input[1]])
    if node.op_type == "MatMul":
        matrix = matrix.T
    elif len(node.input) > 2 or not _attribute(node, "transB"):
        return None
    fits = matrix.ndim == 2 and matrix.shape[1] % BLOCK == 0
    return np.ascontiguousarray(matrix) if fits else None


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _pack(name: str, weight: NDArray[np.float32]) -> _Packed:
    outputs, inputs = weight.shape
    blocks = weight.reshape(outputs, inputs // BLOCK, BLOCK)
    scales = np.abs(blocks).max(axis=-1, keepdims=True).astype(np.float32) / _LARGEST
    scales[scales == 0] = 1.0
    rounded = (np.round(blocks / scales) + _ZERO_POINT).astype(np.uint8)
    arrays = {
        "int8": rounded,
        "scales": scales.reshape(-1),
        "row_scales": scales,
        "zero_point": np.float32(_ZERO_POINT),
    }
    tensors = (numpy_helper.from_array(array, f"{name}.{part}") for part, array in arrays.items())
    return _Packed(outputs, inputs, tuple(tensors))


def _replaced(node: onnx.NodeProto, packed: dict[str, _Packed]) -> list[onnx.NodeProto]:
    """The nodes that take a node's place: those of a quantised matrix, else the node itself."""
    if node.op_type == "Gather" and node.input[0] in packed:
        return _look_up(node, packed[node.input[0]])
    if node.op_type in ("MatMul", "Gemm") and node.input[1] in packed:
        return [_product(node, packed[node.input[1]])]
    return [node]


def _product(node: onnx.NodeProto, matrix: _Packed) -> onnx.NodeProto:
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *matrix.names[:2]],
        list(node.output),
        name=node.name,
        domain=_CONTRIB,
        K=matrix.inputs,
        N=matrix.outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=_INT8_ACTIVATIONS,
    )


def _look_up(node: onnx.NodeProto, matrix: _Packed) -> list[onnx.NodeProto]:
    """Rows of the matrix as float32: (clips, group, length) indices → (…, inputs)."""
    data, _, row_scales, zero_point = matrix.names
    indices, name = node.input[1], node.name
    make = helper.make_node
    shape = numpy_helper.from_array(np.array([0, 0, 0, matrix.inputs], np.int64))
    return [
        make("Gather", [data, indices], [f"{name}.bytes"], axis=0),
        make("Cast", [f"{name}.bytes"], [f"{name}.floats"], to=onnx.TensorProto.FLOAT),
        make("Sub", [f"{name}.floats", zero_point], [f"{name}.centred"]),
        make("Gather", [row_scales, indices], [f"{name}.scales"], axis=0),
        make("Mul", [f"{name}.centred", f"{name}.scales"], [f"{name}.blocks"]),
        make("Constant", [], [f"{name}.shape"], value=shape),
        make("Reshape", [f"{name}.blocks", f"{name}.shape"], list(node.output)),
    ]
