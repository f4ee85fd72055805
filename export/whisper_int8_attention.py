"""Cross-attention over int8 keys and values.

A step of a batch reads every clip's keys and values of every layer: 37 MB a clip in float32 for
whisper-base, which is most of what a step does. Here the encoder's graph hands them over as int8
with one scale for each channel of each clip, and the decoder's reads them with onnxruntime's
`GroupQueryAttention`, the one operator of its CPU provider that multiplies int8 caches as they are.
The scales stay outside of it: the keys' are multiplied into the query, the values' into the answer.

What the operator asks for and the decoder's caller has to know:

- Caches go in and come out. An output `kept_…` has to be bound to the memory of its input, or the
  operator copies the whole cache.
- One row for each clip, or one clip with many rows.

Scores of the alignment heads are worked out where a clip's rows are many, which is how word times
are read; after a step of one row for each clip `alignment` has no clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_CONTRIB: Final = "com.microsoft"
_LARGEST: Final = 127
_TINY: Final = 1e-12
"""Keeps a channel that is zero throughout from dividing by zero."""

_POSITIONS: Final = 1500


@dataclass
class _Rewriting:
    """A graph that is being rewritten, with its nodes by what they write and what they read."""

    graph: onnx.GraphProto
    writers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    added: list[onnx.NodeProto] = field(default_factory=list)
    dropped: list[onnx.NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writers = {name: node for node in self.graph.node for name in node.output}

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value."""
        return [node for node in self.graph.node if name in node.input]

    def product_with(self, name: str) -> onnx.NodeProto:
        """The one product that has a value on its right."""
        (product,) = (node for node in self.readers(name) if node.op_type == "MatMul")
        return product

    def add(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attributes: Any
    ) -> str:
        """Adds a node; returns the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self.added.append(
            helper.make_node(
                operator, list(inputs), names, name=f"{names[0]}/{operator}", **attributes
            )
        )
        return names[0]

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Adds a constant; returns its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def finish(self) -> None:
        """Puts the new nodes in place of the dropped ones, in an order in which they can run, and
        drops constants that nobody reads any more."""
        gone = {id(node) for node in self.dropped}
        nodes = [node for node in self.graph.node if id(node) not in gone] + self.added
        ordered = _in_order(nodes, self.graph)
        del self.graph.node[:]
        self.graph.node.extend(ordered)
        wanted = {name for node in ordered for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in wanted]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def hand_over_int8(model: onnx.ModelProto) -> None:
    """The encoder's keys and values in int8, and their scales as outputs of their own.

    `cross_key_…` and `cross_value_…`: int8, (1, heads, 1500, head_dim); `cross_key_scale_…` and
    `cross_value_scale_…`: float32, (1, 1, d_model). One clip at a time.
    """
    graph = model.graph
    work = _Rewriting(graph)
    work.constant("int8_largest", np.float32(_LARGEST))
    work.constant("int8_tiny", np.float32(_TINY))
    work.constant("int8_positions", np.array([0, 1], np.int64))
    work.constant("int8_one", np.float32(1))
    work.constant("int8_zero", np.int8(0))
    scales: list[onnx.ValueInfoProto] = []
    for output in list(graph.output):
        transpose = work.writers[output.name]
        reshape = work.writers[transpose.input[0]]
        channels = reshape.input[0]
        heads, head_dim = _heads_of(output)
        scale = output.name.replace("cross_key", "cross_key_scale").replace(
            "cross_value", "cross_value_scale"
        )
        work.dropped += [transpose, reshape]
        _quantize_channels(work, channels, output.name, scale)
        shape = np.array([1, _POSITIONS, heads, head_dim], np.int64)
        split = work.add(
            "Reshape",
            [f"{output.name}.int8", work.constant(f"{output.name}.shape", shape)],
            f"{output.name}.split",
        )
        work.add("Transpose", [split], output.name, perm=[0, 2, 1, 3])
        output.CopyFrom(
            helper.make_tensor_value_info(
                output.name, TensorProto.INT8, [1, heads, _POSITIONS, head_dim]
            )
        )
        scales.append(
            helper.make_tensor_value_info(scale, TensorProto.FLOAT, [1, 1, heads * head_dim])
        )
    graph.output.extend(scales)
    _one_clip(graph)
    work.finish()


def read_int8(model: onnx.ModelProto) -> None:
    """The decoder's cross-attention over what `hand_over_int8` made of keys and values."""
    graph = model.graph
    work = _Rewriting(graph)
    layers = sum(value.name.startswith("cross_key_") for value in graph.input)
    inputs = {value.name: value for value in graph.input}
    heads, head_dim = _heads_of(inputs["cross_key_0"])
    _shared_inputs(work, heads * head_dim)
    for layer in range(layers):
        _attend(work, layer, heads, head_dim)
        for part in ("key", "value"):
            name = f"cross_{part}_{layer}"
            shape = ["clips", heads, _POSITIONS, head_dim]
            inputs[name].CopyFrom(helper.make_tensor_value_info(name, TensorProto.INT8, shape))
            kept = helper.make_tensor_value_info(f"kept_{name}", TensorProto.INT8, shape)
            graph.output.append(kept)
    width = heads * head_dim
    graph.input.extend(
        helper.make_tensor_value_info(
            f"cross_{part}_scale_{layer}", TensorProto.FLOAT, ["clips", 1, width]
        )
        for layer in range(layers)
        for part in ("key", "value")
    )
    del graph.value_info[:]
    work.finish()


def _quantize_channels(work: _Rewriting, source: str, name: str, scale: str) -> None:
    """float32 (1, 1500, width) → `name`.int8 and its scale (1, 1, width)."""
    size = work.add("Abs", [source], f"{name}.size")
    highest = work.add("ReduceMax", [size, "int8_positions"], f"{name}.highest", keepdims=1)
    step = work.add("Div", [highest, "int8_largest"], f"{name}.step")
    work.add("Max", [step, "int8_tiny"], scale)
    # With a scale for each channel QuantizeLinear takes a quarter of the encoder's time.
    steps = work.add("Div", [source, scale], f"{name}.steps")
    work.add("QuantizeLinear", [steps, "int8_one", "int8_zero"], f"{name}.int8")


def _shared_inputs(work: _Rewriting, width: int) -> None:
    """What every layer's operator reads: no new keys or values, and all 1500 positions."""
    clips = work.add("Shape", ["cross_key_scale_0"], "cross_clips", start=0, end=1)
    none = work.constant("cross_none_shape", np.array([0, width], np.int64))
    shape = work.add("Concat", [clips, none], "cross_nothing_shape", axis=0)
    work.add("ConstantOfShape", [shape], "cross_nothing")
    last = numpy_helper.from_array(np.array([_POSITIONS - 1], np.int32))
    work.add("ConstantOfShape", [clips], "cross_last", value=last)
    work.constant("cross_positions", np.array(_POSITIONS, np.int32))
    work.constant("cross_one", np.ones(1, np.float32))


def _attend(work: _Rewriting, layer: int, heads: int, head_dim: int) -> None:
    """Replaces one layer's products with the keys and the values, and the softmax between."""
    key, value = f"cross_key_{layer}", f"cross_value_{layer}"
    scores, mixed = work.product_with(key), work.product_with(value)
    split = work.writers[scores.input[0]]
    reshape = work.writers[split.input[0]]
    softmax = work.writers[mixed.input[0]]
    (joined,) = work.readers(mixed.output[0])
    (flat,) = work.readers(joined.output[0])
    work.dropped += [scores, softmax, mixed, joined, flat]
    query = work.add("Mul", [reshape.input[0], f"cross_key_scale_{layer}"], f"{key}.query")
    reshape.input[0] = query
    answer = work.add(
        "GroupQueryAttention",
        [
            *(query, "cross_nothing", "cross_nothing", key, value, "cross_last", "cross_positions"),
            *("", "", "", "", ""),
            *("cross_one", "cross_one"),
        ],
        [f"{value}.mixed", f"kept_{key}", f"kept_{value}"],
        domain=_CONTRIB,
        num_heads=heads,
        kv_num_heads=heads,
        scale=1.0,
        causal=0,
        k_quant_type="PER_TENSOR",
        v_quant_type="PER_TENSOR",
        kv_cache_bit_width=8,
    )
    work.add("Mul", [answer, f"cross_value_scale_{layer}"], flat.output[0])
    if any(node is not softmax for node in work.readers(scores.output[0])):
        _score(work, layer, split.output[0], scores.output[0])


def _score(work: _Rewriting, layer: int, query: str, scores: str) -> None:
    """Scores (clips, heads, rows, 1500) of a single clip with many rows, else of no clip."""
    name = f"cross_scores_{layer}"
    aligned = "cross_aligned"
    if all(aligned not in node.output for node in work.added):
        one = work.constant("cross_1", np.array(1, np.int64))
        rows = work.add("Shape", [query], "cross_rows_shape", start=2, end=3)
        none = work.constant("cross_scalar", np.zeros(0, np.int64))
        count = work.add("Reshape", [rows, none], "cross_rows")
        more = work.add("Sub", [count, one], "cross_more_rows")
        first = work.add("Min", [more, one], "cross_scored_clips")
        zero = work.constant("cross_0", np.array(0, np.int64))
        work.add("Range", [zero, first, one], aligned)
    keys = work.add("Gather", [f"cross_key_{layer}", aligned], f"{name}.keys", axis=0)
    floats = work.add("Cast", [keys], f"{name}.floats", to=TensorProto.FLOAT)
    turned = work.add("Transpose", [floats], f"{name}.turned", perm=[0, 1, 3, 2])
    own = work.add("Gather", [query, aligned], f"{name}.query", axis=0)
    work.add("MatMul", [own, turned], scores)


def _heads_of(value: onnx.ValueInfoProto) -> tuple[int, int]:
    """Heads and head_dim of (clips, heads, head_dim, 1500) or (clips, heads, 1500, head_dim)."""
    _, heads, *rest = (dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    return heads, next(size for size in rest if size != _POSITIONS)


def _one_clip(graph: onnx.GraphProto) -> None:
    """The encoder takes one clip at a time from here on."""
    (audio,) = graph.input
    dimension = audio.type.tensor_type.shape.dim[0]
    dimension.ClearField("dim_param")
    dimension.dim_value = 1
    del graph.value_info[:]


def _in_order(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those that write what it reads."""
    writers = {name: index for index, node in enumerate(nodes) for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[int] = set()
    for start in range(len(nodes)):
        waiting = [start]
        while waiting:
            index = waiting[-1]
            needed = {writers[name] for name in nodes[index].input if name in writers} - done
            if needed:
                waiting.extend(needed)
                continue
            waiting.pop()
            if index not in done:
                done.add(index)
                ordered.append(nodes[index])
    return ordered
