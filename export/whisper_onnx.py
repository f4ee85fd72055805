"""Writes Whisper's two graphs as encoder.onnx and decoder.onnx, in the precision asked for."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration

from export.quiet import quiet
from export.types import ExportOptions
from export.whisper_graph import (
    CLIP_SAMPLES,
    ENCODER_FRAMES,
    DecoderGraph,
    EncoderGraph,
    WhisperSizes,
    sizes_of,
)
from export.whisper_int8 import quantize_decoder, quantize_encoder

Quantizer: TypeAlias = Callable[[Path, Path, bool], None]
"""Rewrites a float32 graph with int8 weights: source, target, whether weights lie beside it."""

ENCODER_FILE: Final = "encoder.onnx"
DECODER_FILE: Final = "decoder.onnx"

_PROTOBUF_LIMIT_BYTES: Final = 1_900_000_000
"""A protobuf message ends at 2 GiB: larger weights lie beside the graph, in `<file>.data`."""


def write_graphs(
    model: WhisperForConditionalGeneration,
    alignment_heads: Sequence[tuple[int, int]],
    options: ExportOptions,
    folder: Path,
) -> None:
    """Exports both graphs of a float32 model, which stays as it is, into `folder`."""
    sizes = sizes_of(model)
    if options.precision == "fp16":
        model = _halved(model)
    fused = options.target != "tensorrt"
    with torch.no_grad(), quiet():
        encoder = EncoderGraph(model, fused_attention=fused).eval()
        _write_encoder(encoder, sizes, options, folder / ENCODER_FILE)
        decoder = DecoderGraph(model, alignment_heads).eval()
        _write_decoder(decoder, sizes, options, folder / DECODER_FILE)


def cross_names(sizes: WhisperSizes) -> list[str]:
    """Names of the encoder's outputs, which are the decoder's inputs."""
    return layer_names("cross", sizes)


def layer_names(prefix: str, sizes: WhisperSizes) -> list[str]:
    """`<prefix>_key_0`, `<prefix>_value_0`, … for every layer of the decoder."""
    return [
        f"{prefix}_{part}_{layer}"
        for layer in range(sizes.decoder_layers)
        for part in ("key", "value")
    ]


def _write_encoder(
    graph: EncoderGraph, sizes: WhisperSizes, options: ExportOptions, path: Path
) -> None:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        graph,
        (torch.zeros(2, CLIP_SAMPLES),),
        input_names=["audio"],
        output_names=cross_names(sizes),
        dynamic_shapes={"audio": {0: batch}},
        opset_version=options.opset,
        dynamo=True,
        verbose=False,
    )
    _save(program, graph, options, path, quantize_encoder)


def _write_decoder(
    graph: DecoderGraph, sizes: WhisperSizes, options: ExportOptions, path: Path
) -> None:
    names = ("clips", "group", "length", "count", "past")
    clips, group, length, count, past = (torch.export.Dim(name) for name in names)
    dtype = graph.table.dtype
    heads, head_dim = sizes.heads, sizes.head_dim
    cache = [torch.zeros(2, 3, heads, 5, head_dim, dtype=dtype) for _ in layer_names("past", sizes)]
    clip: list[Tensor] = []
    for _ in range(sizes.decoder_layers):
        clip.append(torch.zeros(2, heads, head_dim, ENCODER_FRAMES, dtype=dtype))
        clip.append(torch.zeros(2, heads, ENCODER_FRAMES, head_dim, dtype=dtype))
    tokens = torch.zeros(2, 3, 4, dtype=torch.int64)
    padding, positions = torch.tensor([0, 1]), torch.tensor([1, 2])
    program = torch.onnx.export(
        graph,
        (tokens, padding, positions, cache, clip),
        input_names=[
            *("tokens", "padding", "logit_positions"),
            *layer_names("past", sizes),
            *cross_names(sizes),
        ],
        output_names=["logits", "alignment", *layer_names("present", sizes)],
        dynamic_shapes={
            "tokens": {0: clips, 1: group, 2: length},
            "padding": {0: clips},
            "logit_positions": {0: count},
            "past": [{0: clips, 1: group, 3: past} for _ in cache],
            "cross": [{0: clips} for _ in clip],
        },
        opset_version=options.opset,
        dynamo=True,
        verbose=False,
    )
    _save(program, graph, options, path, quantize_decoder)


def _save(
    program: Any, graph: nn.Module, options: ExportOptions, path: Path, quantize: Quantizer
) -> None:
    """Writes the exported program; int8 weights go through a float32 file that is removed again."""
    size_bytes = sum(p.numel() * p.element_size() for p in graph.state_dict().values())
    external = size_bytes > _PROTOBUF_LIMIT_BYTES
    if options.precision != "int8":
        program.save(path, external_data=external)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        in_floats = Path(folder) / path.name
        program.save(in_floats, external_data=external)
        quantize(in_floats, path, external)


def _halved(model: WhisperForConditionalGeneration) -> WhisperForConditionalGeneration:
    """A float16 copy whose layer norms stay float32."""
    halved = copy.deepcopy(model)
    for module in halved.modules():
        if not isinstance(module, nn.LayerNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.half()
    return halved
