"""OpenVINO, as the models use it, connects to nobody."""

from __future__ import annotations

import subprocess
import sys

from tests.whisper_runtime import RELEASE

PROGRAM = """
import socket, sys

class Connected(BaseException):
    pass

def refuse(*_: object) -> None:
    raise Connected

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
if sys.argv[1] == "control":
    socket.create_connection(("localhost", 9))
sys.path.insert(0, sys.argv[1])
import numpy as np
from pathlib import Path
from cpu_encoder import CpuEncoder
encoder = CpuEncoder(Path(sys.argv[1], "encoder.onnx"), threads=1, precision="fp32")
print(len(encoder.encode([np.zeros(16_000, np.float32)])))
"""


def test_opening_and_running_a_model_connects_to_nobody() -> None:
    """In a process of its own; its exit would wait for threads that send in the background."""

    def run(argument: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, argument], capture_output=True, text=True, timeout=120
        )

    quiet, control = run(str(RELEASE)), run("control")

    assert quiet.returncode == 0, quiet.stderr
    assert int(quiet.stdout) > 0 and "Connected" not in quiet.stderr
    assert control.returncode != 0 and "Connected" in control.stderr
