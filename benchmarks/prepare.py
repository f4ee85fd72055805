"""Makes a set of Whisper weights ready for everybody who is measured.

  python -m benchmarks prepare base --out work

makes, under work/base, a checkpoint of the true size that writes a token for every 0.3 s of speech
(benchmarks/weights.py says how), the same weights in openai-whisper's format, and a model
repository in which they are the `whisper` model, exported as int8. `bundled` takes the project's
own checkpoint instead. What is there already stays. Needs the export environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError
from benchmarks.load.clips import ROOT

BUNDLED: Final = ROOT / "export" / "checkpoints" / "whisper"
SIZES: Final = ("bundled", "tiny", "base", "small")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    command.add_argument("weights", choices=SIZES, nargs="+")
    command.add_argument(
        "--out", type=Path, default=Path("work"), metavar="DIR", help="default: ./work"
    )
    command.add_argument(
        "--precision", choices=("int8", "fp32"), default="int8", help="of our export (default int8)"
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    for name in parsed.weights:
        print(prepare(name, parsed.out / name, parsed.precision))
    return 0


def prepare(name: str, folder: Path, precision: str) -> Path:
    """Makes what is missing in `folder`; returns it.

    Raises:
        BenchmarkError: the export failed; its own words say why.
    """
    checkpoint = BUNDLED if name == "bundled" else folder / "checkpoint"
    if not (checkpoint / "model.safetensors").exists():
        from benchmarks.weights import write_checkpoint

        _finished(checkpoint, lambda path: write_checkpoint(path, name))
    if not (folder / "openai.pt").exists():
        from benchmarks.openai_format import write_openai

        folder.mkdir(parents=True, exist_ok=True)
        write_openai(checkpoint, folder / "openai.pt")
    if not (folder / "repository").exists():
        _finished(folder / "repository", lambda path: _export(checkpoint, path, precision))
    (folder / "checkpoint.path").write_text(str(checkpoint.resolve()))
    return folder


def _finished(path: Path, make: Callable[[Path], object]) -> None:
    """Makes a folder under another name first: an interrupted one is never taken for finished."""
    staging = path.with_name(path.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    make(staging)
    staging.rename(path)


def _export(checkpoint: Path, repository: Path, precision: str) -> None:
    shutil.copytree(ROOT / "model_repository", repository)
    command = [sys.executable, "-m", "export", "whisper", "--checkpoint", str(checkpoint)]
    command += ["--precision", precision, "--version", "1", "--replace"]
    command += ["--repository", str(repository)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"the export failed: {done.stderr.strip()[-2000:]}")
