"""OpenVINO, as the models and the export import it, connects to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

REFUSING = """
import socket

class Connected(BaseException):
    pass

def refuse(*_):
    raise Connected

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""

WHISPER = """
import sys
sys.path.insert(0, "model_repository/whisper/1")
import numpy as np
from pathlib import Path
from cpu_encoder import CpuEncoder
encoder = CpuEncoder(Path(sys.path[0], "encoder.onnx"), threads=1, precision="fp32")
assert encoder.encode([np.zeros(16_000, np.float32)])
"""

BACKEND = """
import sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
sys.path.insert(0, "triton_backends/onnxruntime")
import model
sys.modules["cpu_graph"].openvino.Core()
"""

EXPORT = """
import sys
import export.onnx_graph
sys.modules["triton_backends.onnxruntime.cpu_graph"].openvino.Core()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, which waits for whatever it sends in the background."""
    command = [sys.executable, "-c", REFUSING + program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("program", [WHISPER, BACKEND, EXPORT], ids=["whisper", "leaves", "export"])
def test_importing_and_running_it_connects_to_nobody(program: str) -> None:
    finished = run(program)

    assert finished.returncode == 0, finished.stderr
    assert "Connected" not in finished.stderr


def test_a_connection_would_be_seen() -> None:
    assert "Connected" in run("socket.create_connection(('localhost', 9))").stderr
