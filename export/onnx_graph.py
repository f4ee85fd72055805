"""PyTorch module → ONNX file with one audio input of any batch size and any length."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from export.quiet import quiet
from export.types import SAMPLE_RATE_HZ, Precision
from triton_backends.onnxruntime.cpu_graph import FEATURES, CpuGraph, Row

AUDIO: Final = "AUDIO"
"""Name of the one input of a leaf model: float32, shape (batch, samples), in [-1, 1], 16 kHz."""

_SCOPES_KEY: Final = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes a node's module path: a printed list, from the root module to the
node itself."""

MIN_EXAMPLE_BATCH: Final = 2
"""torch.export specialises dimensions of size 0 and 1, so the example batch holds two clips."""


def write_onnx(module: torch.nn.Module, path: Path, output: str, opset: int) -> None:
    """Traces `module` (audio (batch, samples) → (batch, values)) into an ONNX file at
    `path`.

    Both dimensions of the input stay free. Weights lie inside the file.
    """
    torch.manual_seed(0)
    example = torch.randn(MIN_EXAMPLE_BATCH, 2 * SAMPLE_RATE_HZ) * 0.1
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), quiet():
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=[AUDIO],
            output_names=[output],
            dynamic_shapes=(dynamic,),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    _name_by_module(path)


def validate(path: Path) -> None:
    """Checks an ONNX file against the standard and infers every shape strictly.

    Raises:
        onnx.checker.ValidationError: the file isn't valid ONNX.
        onnx.shape_inference.InferenceError: an operator's inputs don't fit.
    """
    onnx.checker.check_model(str(path))
    onnx.shape_inference.infer_shapes(onnx.load(str(path)), check_type=True, strict_mode=True)


def run(
    path: Path, clips: Sequence[NDArray[np.float32]], precision: Precision = "fp32"
) -> list[NDArray[np.float32]]:
    """Runs each clip alone through the ONNX file on the CPU; one vector per clip.

    What is for CPUs alone (bf16, int8) runs as the embedded Triton serves it; without bfloat16 in
    the processor both are computed in float32.

    Raises:
        RuntimeError: the graph can't take one of the clips.
    """
    if precision in ("bf16", "int8"):
        graph = CpuGraph(path, precision, threads=1)
        (name,) = graph.outputs
        return [_found(answer)[name][0] for answer in graph.run([{AUDIO: c[None]} for c in clips])]
    session = _open(path)
    return [_answers(session, clip[None])[0] for clip in clips]


def run_batch(path: Path, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs clips of one length together, shape (batch, samples); one row per clip."""
    return _answers(_open(path), clips)


def _found(answer: Row | Exception) -> Row:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _answers(
    session: onnxruntime.InferenceSession, audio: NDArray[np.float32]
) -> NDArray[np.float32]:
    answers: NDArray[np.float32] = session.run(None, {AUDIO: audio})[0]
    return answers


def name_features(path: Path, network: str) -> None:
    """Gives the one value that the module `network` itself reads from outside the name `FEATURES`,
    up to which a CPU computes in float32 whatever the precision."""
    model = onnx.load(str(path))
    nodes = model.graph.node
    theirs = (f"{network}/", f"{network}.")  # the module's own nodes, and those of its parts
    outside = {v for node in nodes if not node.name.startswith(theirs) for v in node.output}
    read = {v for node in nodes if node.name.startswith(theirs[0]) for v in node.input}
    (features,) = read & outside
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [FEATURES if name == features else name for name in names]
    onnx.save(model, str(path))


def _name_by_module(path: Path) -> None:
    """Names each node `module.path/Operator_index`, by what the tracer noted of it."""
    model = onnx.load(str(path))
    owners: dict[str, str] = {}
    for index, node in enumerate(model.graph.node):
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(metadata.get(_SCOPES_KEY, "[]"))
        # What the exporter's rewriting adds has no scope: it belongs where its input comes from.
        owner = scopes[-2] if scopes else owners.get(node.input[0], "")
        owners.update(dict.fromkeys(node.output, owner))
        node.name = f"{owner}/{node.op_type}_{index}"
    onnx.save(model, str(path))
