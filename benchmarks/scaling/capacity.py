"""What so many hours of audio an hour need, from measured figures.

An hour of audio an hour is a second of audio a second. With H of them at once:

  model cores = H × Σ (cpu seconds of a model a second × seconds it hears a second) ÷ utilisation
  API cores   = H × cpu seconds of the API a second ÷ utilisation
  replicas    = cores ÷ cores of a pod, rounded up
  rates       = H × bytes (rows, commits, commands) of an hour
  what stays  = rate × how long it stays

`python -m benchmarks figures` measures them anew; another machine's --figures are another answer.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import UsageError
from benchmarks.scaling.figures import FIGURES

_PCM_BYTES_PER_HOUR: Final = 3600 * 16_000 * 2
_TENSOR_BYTES_PER_HOUR: Final = 3600 * 16_000 * 4
_EMOTION_WINDOW_S: Final = 2.0
_SPEAKER_WINDOW_S: Final = 1.5
_POD_CORES: Final = 2
"""What deploy/kubernetes asks for, for a pod of Triton's and one of the API."""


@dataclass(frozen=True)
class Plan:
    """What is decided, not measured.

    Attributes:
        utilisation: share of the cores that is busy on average: room for bursts.
        cache_hours, kept_days: CACHE_TTL, and how long analyses are kept.
        gpu_audio_s_per_s: what one GPU does, all models; None = nobody measured it.
    """

    whisper: str = "base"
    utilisation: float = 0.6
    cache_hours: float = 24.0
    kept_days: float = 365.0
    gpu_audio_s_per_s: float | None = None


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--hours", nargs="+", type=float, default=[1.0, 10.0, 1000.0], help="of audio, an hour")
    add("--whisper", default="base", help="size (default base)")
    add("--utilisation", type=float, default=Plan.utilisation, help="of the cores (default 0.6)")
    add("--cache-hours", type=float, default=Plan.cache_hours, help="CACHE_TTL (default 24)")
    add("--kept-days", type=float, default=Plan.kept_days, help="of analyses (default 365)")
    add("--gpu", type=float, metavar="X", help="seconds of audio a second of one GPU, measured")
    add("--figures", type=Path, default=FIGURES, metavar="JSON")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: no such figures, or a share that is none.
    """
    if not 0 < parsed.utilisation <= 1 or min(parsed.hours) <= 0:
        raise UsageError("--utilisation is above 0 and at most 1, --hours are above 0")
    try:
        figures = json.loads(parsed.figures.read_text())
        plan = Plan(
            parsed.whisper,
            parsed.utilisation,
            parsed.cache_hours,
            parsed.kept_days,
            parsed.gpu,
        )
        print(table(figures, parsed.hours, plan))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{parsed.figures} doesn't say: {error}") from error
    return 0


def table(figures: dict[str, Any], hours: Sequence[float], plan: Plan) -> str:
    """Markdown: a row for each need, a column for each load."""
    columns = [needs(figures, hour, plan) for hour in hours]
    head = [f"{hour:,g} h of audio an hour" for hour in hours]
    lines = [f"| | {' | '.join(head)} |", "|---|" + "---|" * len(hours)]
    lines += [f"| {name} | {' | '.join(c[name] for c in columns)} |" for name in columns[0]]
    return "\n".join(lines)


def needs(figures: dict[str, Any], hours: float, plan: Plan) -> dict[str, str]:
    """What a load needs, in words."""
    service, models = figures["service"], figures["models"]
    heard = {
        f"whisper {plan.whisper}": 1.0,
        "emotion": service["emotion_windows_per_audio_s"] * _EMOTION_WINDOW_S,
        "speaker_embedding": service["speaker_windows_per_audio_s"] * _SPEAKER_WINDOW_S,
    }
    cores = {
        model: hours * models[model]["cpu_s_per_audio_s"] * share / plan.utilisation
        for model, share in heard.items()
    }
    api_cores = hours * service["api_cpu_s_per_audio_s"] / plan.utilisation
    found = {f"cores for {model}": f"{count:,.1f}" for model, count in cores.items()}
    found["Triton pods of 2 cores"] = _pods(sum(cores.values()))
    found["GPUs instead"] = (
        "not measured"
        if plan.gpu_audio_s_per_s is None
        else f"{math.ceil(hours / plan.gpu_audio_s_per_s / plan.utilisation):,}"
    )
    found["cores for the API"] = f"{api_cores:,.2f}"
    found["API pods of 2 cores"] = _pods(api_cores)
    stays_h = 24 * plan.kept_days
    a_second = {
        name: f"{hours * service[f'{name}_per_hour'] / 3600:,.1f}"
        for name in ("database_commits", "database_rows", "redis_commands")
    }
    found |= {
        "uploads, as 16 kHz WAV": _rate(hours * _PCM_BYTES_PER_HOUR),
        "API to Triton": _rate(hours * _TENSOR_BYTES_PER_HOUR * sum(heard.values())),
        "answers": _rate(hours * service["answer_bytes_per_hour"]),
        "PostgreSQL, commits a second": a_second["database_commits"],
        "PostgreSQL, rows a second": a_second["database_rows"],
        "PostgreSQL, write-ahead log": _rate(hours * service["database_wal_bytes_per_hour"]),
        f"PostgreSQL, disk after {plan.kept_days:g} days": _size(
            hours * service["database_bytes_per_hour"] * stays_h
        ),
        "Redis, commands a second": a_second["redis_commands"],
        f"Redis, memory with {plan.cache_hours:g} h kept": _size(
            hours * service["redis_bytes_per_hour"] * plan.cache_hours
        ),
        "volume of jobs, for each hour of backlog": _size(hours * _PCM_BYTES_PER_HOUR),
    }
    return found


def _pods(cores: float) -> str:
    return f"{math.ceil(cores / _POD_CORES):,}"


def _rate(bytes_per_hour: float) -> str:
    return f"{bytes_per_hour * 8 / 3600 / 1e6:,.2f} Mbit/s"


def _size(size_bytes: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.1f} kB"
