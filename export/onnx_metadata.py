"""Removes what an exporter notes in an ONNX file about the machine it ran on."""

from __future__ import annotations

from pathlib import Path

import onnx


def drop_metadata(path: Path) -> None:
    """Rewrites an ONNX file without metadata; weights that lie outside the file stay as they are.

    torch's exporter notes a stack trace, with the folders of the machine, for every operation: as
    much data as a small network's weights, and nobody's business where the graph is published.
    """
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for message in (model, graph, *graph.node, *tensors, *model.functions):
        message.ClearField("metadata_props")
    for node in graph.node:
        node.ClearField("doc_string")
    onnx.save(model, str(path))
