"""Where and with what a figure was measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.load.clips import ROOT
from benchmarks.load.versions import here

_LOOKS: Final = 3
_LOOK_S: Final = 3.0
_QUIET_SHARE: Final = 0.05
"""More than this in use before anything was started: somebody else uses the machine."""


def facts() -> dict[str, Any]:
    """Hardware, system, packages and commit."""
    return {
        "measured_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": here(),
    }


def versions_of(python: Path) -> dict[str, str]:
    """The same of another environment."""
    code = "import json; from benchmarks.load.versions import here; print(json.dumps(here()))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(python), "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def busy_share() -> float:
    """Share of all cores that is in use now, what the host takes away among it, 0 to 1.

    To be asked while nobody who is measured runs. The load average won't do: for two minutes it
    remembers who was measured before; so does the kernel for a moment, which still takes apart what
    that one held. The least of a few looks counts.
    """
    share = 1.0
    for _ in range(_LOOKS):
        share = min(share, float(round(psutil.cpu_percent(_LOOK_S) / 100, 3)))
        if is_quiet(share):
            break
    return share


def is_quiet(share: float) -> bool:
    """Whether figures measured now can be trusted."""
    return share <= _QUIET_SHARE


def _commit() -> str:
    """The commit, with `+` where files differ from it."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}+" if changed else name


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return done.stdout.strip().splitlines()
