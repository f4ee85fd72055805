"""Turns a float32 ONNX file into a coarser one in place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export import onnx_graph
from export.int8_weights import store_int8
from export.types import Precision

NORMS: Final = ("LayerNormalization", "InstanceNormalization", "GroupNormalization")
"""Operators that square activations: in fp16 whatever passes 256 overflows (onnxruntime#31626), so
they stay fp32. Batch norms are a mere scale and shift at inference and need no exception."""


def convert(path: Path, precision: Precision, keep_fp32: Sequence[str] = ()) -> None:
    """Rewrites the ONNX file at `path`, and checks it.

    fp32 and bf16 leave it as it is: with bf16 it is the runtime that rounds, from the features on.
    fp16 converts weights and activations, but for the inputs and outputs, the norms, and the nodes
    of the modules named in `keep_fp32` ("" is the root module's own). int8 stores the weights of
    matrix products in 8 bits; the runtime quantises activations as they come, and computes the rest
    as with bf16.
    """
    if precision == "fp16":
        _to_fp16(path, keep_fp32)
    elif precision == "int8":
        model = onnx.load(str(path))
        store_int8(model)
        onnx.save(model, str(path))
    onnx_graph.validate(path)


def _to_fp16(path: Path, keep_fp32: Sequence[str]) -> None:
    model = onnx.load(str(path))
    kept = [node.name for node in model.graph.node if _is_in(node.name, keep_fp32)]
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *NORMS],
        node_block_list=kept,
    )
    # The conversion leaves the former types of what it kept in fp32: readers infer them anew.
    converted.graph.ClearField("value_info")
    graph = OnnxModel(converted)
    # Between two nodes that stay fp32 it casts there and back, which would round all the same.
    graph.remove_cascaded_cast_nodes()
    graph.topological_sort()
    _skip_casts_to_same_type(graph)
    graph.save_model_to_file(str(path))


def _skip_casts_to_same_type(graph: OnnxModel) -> None:
    """Removes casts whose input already has the type that they cast to."""
    inferred = onnx.shape_inference.infer_shapes(graph.model).graph
    values = (*inferred.value_info, *inferred.input)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {weights.name: weights.data_type for weights in inferred.initializer}
    outputs = {output.name for output in inferred.output}
    for node in graph.get_nodes_by_op_type("Cast"):
        target = next(entry.i for entry in node.attribute if entry.name == "to")
        if types.get(node.input[0]) == target and node.output[0] not in outputs:
            graph.replace_input_of_all_nodes(node.output[0], node.input[0])
            graph.remove_node(node)


def _is_in(node_name: str, modules: Sequence[str]) -> bool:
    owner = node_name.rpartition("/")[0]
    return any(owner == module or (module and owner.startswith(f"{module}.")) for module in modules)
