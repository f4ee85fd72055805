"""Makes a set of weights ready for everybody who is measured.

  python -m benchmarks prepare base --out work

makes, under work/base, a checkpoint of the true size that writes a token for every 0.3 s of speech
(benchmarks/weights.py says how), the same weights in openai-whisper's format, and a model
repository in which they are the `whisper` model, exported as int8. `bundled` takes the project's
own checkpoint instead; `leaves` makes emotion and speaker models of the published sizes, of which
the speaker model is bf16 then: it consists of convolutions. What is there already stays. Needs the
export environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError
from benchmarks.load.clips import ROOT

BUNDLED: Final = ROOT / "export" / "checkpoints" / "whisper"
MARK: Final = "checkpoint.path"
"""Written last: where the checkpoint is that everything else was made from."""

SIZES: Final = ("bundled", "tiny", "base", "small")
LEAVES: Final = "leaves"


@dataclass(frozen=True)
class Export:
    """A checkpoint that takes the place of one of the repository's models."""

    model: str
    checkpoint: Path
    precision: str


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    command.add_argument("weights", choices=(*SIZES, LEAVES), nargs="+")
    command.add_argument(
        "--out", type=Path, default=Path("work"), metavar="DIR", help="default: ./work"
    )
    command.add_argument(
        "--precision", choices=("int8", "fp32"), default="int8", help="of our export (default int8)"
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    for name in parsed.weights:
        make = prepare_leaves if name == LEAVES else partial(prepare, name)
        print(make(parsed.out / name, parsed.precision))
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
        exports = [Export("whisper", checkpoint, precision)]
        _finished(folder / "repository", lambda path: _export(exports, path))
    (folder / MARK).write_text(str(checkpoint.resolve()))
    return folder


def prepare_leaves(folder: Path, precision: str) -> Path:
    """The same for the emotion and the speaker model.

    Raises:
        BenchmarkError: the export failed; its own words say why.
    """
    from benchmarks.leaf_weights import write_emotion, write_speaker

    folder = folder.resolve()
    speakers = "bf16" if precision == "int8" else precision
    exports = [
        Export("emotion", folder / "emotion", precision),
        Export("speaker_embedding", folder / "speaker_embedding", speakers),
    ]
    write = {"emotion": write_emotion, "speaker_embedding": write_speaker}
    for export in exports:
        if not export.checkpoint.exists():
            _finished(export.checkpoint, write[export.model])
    if not (folder / "repository").exists():
        _finished(folder / "repository", lambda path: _export(exports, path))
    (folder / MARK).write_text(str(folder))
    return folder


def _finished(path: Path, make: Callable[[Path], object]) -> None:
    """Makes a folder under another name first: an interrupted one is never taken for finished."""
    staging = path.with_name(path.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    make(staging)
    staging.rename(path)


def _export(exports: Sequence[Export], repository: Path) -> None:
    """A copy of the project's repository with these checkpoints in place of its own."""
    shutil.copytree(ROOT / "model_repository", repository)
    for export in exports:
        command = [sys.executable, "-m", "export", export.model]
        command += ["--checkpoint", str(export.checkpoint), "--precision", export.precision]
        command += ["--version", "1", "--replace"]
        command += ["--repository", str(repository)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip()[-2000:]
            raise BenchmarkError(f"the export of {export.model} failed: {said}")
