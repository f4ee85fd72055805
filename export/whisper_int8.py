"""Whisper's graphs with int8 weights, for CPUs.

The encoder is quantised dynamically: its activations get one scale per run. That is harmless there,
since a CPU encodes clip by clip. In the decoder it would let the rows of a batch change each
other's tokens, so its weights and activations are quantised in blocks of a row, by onnxruntime's
MatMulNBits: measured on whisper-base's decoder, a row's logits are bit for bit the same alone and
in batches of up to 16, at 6.0, 13.7 and 25.3 ms per step of 1, 4 and 8 rows on one core, against
15.2, 23.6 and 32.2 in float32 and 7.6, 15.8 and 22.4 quantised dynamically.
"""

from __future__ import annotations

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
    """Writes `source` with every product by a constant matrix as MatMulNBits of 8 bits."""
    model = onnx.load(source)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    packed: dict[str, list[onnx.TensorProto]] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = _weight(node, constants)
        if weight is None:
            nodes.append(node)
            continue
        name = node.input[1]
        if name not in packed:
            packed[name] = _packed(name, weight)
        nodes.append(_product(node, weight.shape, [tensor.name for tensor in packed[name]]))
    del graph.node[:]
    graph.node.extend(nodes)
    wanted = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(tensor for pair in packed.values() for tensor in pair)])
    if all(opset.domain != _CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    onnx.save(model, target, save_as_external_data=external_data, location=f"{target.name}.data")


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


def _packed(name: str, weight: NDArray[np.float32]) -> list[onnx.TensorProto]:
    """Bytes (outputs, blocks, block) around a zero point of 128, and float32 scales."""
    outputs, inputs = weight.shape
    blocks = weight.reshape(outputs, inputs // BLOCK, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / _LARGEST
    scales[scales == 0] = 1.0
    rounded = np.round(blocks / scales[..., None]) + _ZERO_POINT
    return [
        numpy_helper.from_array(rounded.astype(np.uint8), f"{name}.int8"),
        numpy_helper.from_array(scales.astype(np.float32).reshape(-1), f"{name}.scales"),
    ]


def _product(node: onnx.NodeProto, shape: tuple[int, ...], packed: list[str]) -> onnx.NodeProto:
    outputs, inputs = shape
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *packed],
        list(node.output),
        name=node.name,
        domain=_CONTRIB,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=_INT8_ACTIVATIONS,
    )
