"""Turns a float32 ONNX file into a smaller, coarser one in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from export.quiet import quiet
from export.types import Precision

NORMS: Final = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")
"""Operators that square activations: in fp16 whatever passes 256 overflows (onnxruntime#31626), so
they stay fp32. Batch norms are a mere scale and shift at inference and need no exception."""


def convert(path: Path, precision: Precision, keep_fp32: Sequence[str] = ()) -> None:
    """Rewrites the ONNX file at `path`; fp32 leaves it as it is.

    fp16 converts weights and activations, but for the inputs and outputs, the norms, and the nodes
    of the modules named in `keep_fp32` ("" is the root module's own). int8 quantises the weights of
    matrix products per channel; their activations are quantised as they come.
    """
    if precision == "fp16":
        _to_fp16(path, keep_fp32)
    elif precision == "int8":
        _to_int8(path)


def _to_int8(path: Path) -> None:
    with quiet():
        quantize_dynamic(
            path,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _to_fp16(path: Path, keep_fp32: Sequence[str]) -> None:
    model = onnx.load(str(path))
    kept = [node.name for node in model.graph.node if _is_in(node.name, keep_fp32)]
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *NORMS],
        node_block_list=kept,
    )
    onnx.save(converted, str(path))


def _is_in(node_name: str, modules: Sequence[str]) -> bool:
    owner = node_name.rpartition("/")[0]
    return any(owner == module or (module and owner.startswith(f"{module}.")) for module in modules)
