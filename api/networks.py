"""The API's own small networks, which don't go through Triton: on the processor, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import onnxruntime

ASSETS: Final = Path(__file__).with_name("assets")


def open_network(name: str) -> onnxruntime.InferenceSession:
    """The network in a file of `assets`; its `run` may be called in any thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(ASSETS / name), options, providers=["CPUExecutionProvider"]
    )
