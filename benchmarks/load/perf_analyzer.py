"""NVIDIA's perf_analyzer beside our own load, against the same Triton in the same turn.

It is in the wheel of `tritonclient` (benchmarks/README.md says how to get it to run) and makes up
its inputs, which for networks of fixed work is as good as speech.
"""

from __future__ import annotations

import csv
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import BenchmarkError
from benchmarks.load.clips import SAMPLE_RATE_HZ
from benchmarks.load.scenarios import Closed, Scenario

NAME: Final = "perf_analyzer"

_WINDOW_MS: Final = 10_000
_STABLE_PERCENT: Final = 25
"""Three windows in a row may differ by so much; a machine with neighbours is seldom at its 10."""

_TIMEOUT_S: Final = 300.0


def measure(program: Path, triton_url: str, scenario: Scenario, load: Closed) -> dict[str, Any]:
    """The scenario's batches of windows at one concurrency, in the form of our own runs.

    Raises:
        BenchmarkError: the program fails, or finds no stable figure.
    """
    assert scenario.model is not None
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "figures.csv"
        command = [str(program), "-m", scenario.model, "-i", "http"]
        command += ["-u", triton_url.removeprefix("http://"), "-b", str(scenario.batch)]
        command += ["--shape", f"AUDIO:{round(scenario.windows_s * SAMPLE_RATE_HZ)}"]
        command += ["--concurrency-range", f"{load.clients}:{load.clients}"]
        command += ["--measurement-interval", str(_WINDOW_MS)]
        command += ["--stability-percentage", str(_STABLE_PERCENT), "-f", str(table)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=os.environ
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchmarkError(f"{program} doesn't run: {error}") from error
        if done.returncode != 0 or not table.exists():
            raise BenchmarkError(f"{program} failed: {(done.stdout + done.stderr)[-1000:]}")
        return {"load": load.name, **figures(table.read_text(), scenario.windows_s)}


def figures(table: str, windows_s: float) -> dict[str, Any]:
    """What its CSV says of one concurrency.

    Args:
        table: times in microseconds, an inference being one window of a batch.
        windows_s: seconds of audio in a window.
    """
    (row,) = csv.DictReader(table.strip().splitlines())
    latency_s = {f"p{p}": round(int(row[f"p{p} latency"]) / 1e6, 4) for p in (50, 95, 99)}
    return {
        "audio_s_per_s": round(float(row["Inferences/Second"]) * windows_s, 3),
        "latency_s": latency_s,
        "errors": {},
        "triton": None,
    }
