"""What a second of audio costs in recordings of seconds and of hours, and what memory they take.

Each length is a job of its own on a service of its own (this checkout's, one worker, embedded
Triton, bundled weights), after a short one to warm up. Counted is processor time, of the API and of
Triton, so that other programs on the machine don't matter much; the recordings are the sample's
conversation, over and over.

  python -m benchmarks lengths --seconds 10 60 600 3600 14400 --out lengths
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import wave
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from matplotlib.figure import Figure

from benchmarks.errors import BenchmarkError, UsageError
from benchmarks.load import machine
from benchmarks.load.processes import Meter
from benchmarks.rollouts import RATE_HZ, SAMPLE, Service, running

LENGTHS_S: Final = (10.0, 60.0, 600.0, 3600.0, 14400.0)
WARM_UP_S: Final = 30.0
MIB: Final = 2**20


@dataclass(frozen=True)
class Cost:
    """What one recording took."""

    seconds: float
    wall_s: float
    api_cpu_s: float
    triton_cpu_s: float
    peak_memory_mib: float
    words: int

    @property
    def cpu_per_second(self) -> float:
        return (self.api_cpu_s + self.triton_cpu_s) / self.seconds


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--seconds", type=float, nargs="+", default=LENGTHS_S, metavar="S", help="lengths")
    add(
        "--out",
        type=Path,
        default=Path("lengths"),
        metavar="DIR",
        help="JSON, Markdown and PNG (default ./lengths)",
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if min(parsed.seconds) < 1:
        raise UsageError("--seconds must be at least 1")
    busy_share = machine.busy_share()
    costs = []
    for seconds in parsed.seconds:
        costs.append(measure(seconds))
        print(_row(costs[-1]), flush=True)
    results = {
        "machine": machine.facts(),
        "busy_share": busy_share,
        "costs": [asdict(cost) for cost in costs],
    }
    print(write(results, costs, parsed.out))
    return 0


def measure(seconds: float) -> Cost:
    """One recording through a service that was started for it.

    Raises:
        BenchmarkError: its job did not succeed.
    """
    with tempfile.TemporaryDirectory(prefix="lengths-") as name:
        folder = Path(name)
        short, long = folder / "short.wav", folder / "long.wav"
        record(short, WARM_UP_S)
        record(long, seconds)
        with running(folder, workers=1, settings={"MAX_JOB_LENGTH": str(seconds + 60)}) as service:
            asyncio.run(_work_off(service, short))
            meter = Meter(service.process.pid)
            began = time.monotonic()
            answer = asyncio.run(_watched(service, long, meter))
            wall_s, usage = time.monotonic() - began, meter.usage()
    of_api = {name: s for name, s in usage.cpu_s.items() if name.startswith("python")}
    return Cost(
        seconds=seconds,
        wall_s=round(wall_s, 2),
        api_cpu_s=round(sum(of_api.values()), 2),
        triton_cpu_s=round(sum(usage.cpu_s.values()) - sum(of_api.values()), 2),
        peak_memory_mib=round(usage.peak_memory_bytes / MIB, 1),
        words=len(answer["transcription"].split()),
    )


def record(path: Path, seconds: float) -> None:
    """The sample, over and over, as a WAV file of so many seconds."""
    with wave.open(str(SAMPLE)) as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        spoken = source.readframes(source.getnframes())
        left = round(seconds * RATE_HZ) * 2
        while left > 0:
            target.writeframesraw(spoken[:left])
            left -= len(spoken)


async def _watched(service: Service, recording: Path, meter: Meter) -> dict[str, Any]:
    watching = asyncio.create_task(meter.watch())
    try:
        return await _work_off(service, recording)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _work_off(service: Service, recording: Path) -> dict[str, Any]:
    """The analysis that a job ends in."""
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:
        with recording.open("rb") as file:
            answer = await client.post("/audio/jobs", files={"file": file})
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        while job["status"] in ("queued", "running"):
            await asyncio.sleep(0.2)
            job = (await client.get(f"/audio/jobs/{job['id']}")).raise_for_status().json()
        if job["status"] != "succeeded":
            raise BenchmarkError(f"the job {job['status']}: {job['error']}")
        found = await client.get(f"/audio/analyses/{job['analysis_id']}")
        analysis: dict[str, Any] = found.raise_for_status().json()
        return analysis


def write(results: dict[str, Any], costs: list[Cost], folder: Path) -> Path:
    """Writes lengths.json, lengths.md and lengths.png; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lengths.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(costs).savefig(folder / "lengths.png", dpi=120)
    about = results["machine"]
    lines = [
        "# Cost by length",
        "",
        f"{about['processor']}, {about['cores']} cores, commit {about['commit']}, "
        f"{about['measured_at']}; {results['busy_share']:.0%} of the machine was in use before it "
        "began. One job on one worker, bundled weights, everything that an analysis holds.",
        "",
        "| recording | processor, ms a second of audio | API | Triton | memory | words | took |",
        "|---|---|---|---|---|---|---|",
        *map(_row, costs),
        "",
        "![cost by length](lengths.png)",
        "",
    ]
    path = folder / "lengths.md"
    path.write_text("\n".join(lines))
    return path


def draw(costs: list[Cost]) -> Figure:
    """Processor time per second, and memory, over the length."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    places = figure.subplots(1, 2)
    lengths = [cost.seconds / 60 for cost in costs]
    for axes, what, values in (
        (places[0], "processor, ms per second of audio", [1000 * c.cpu_per_second for c in costs]),
        (places[1], "most memory of all processes, MiB", [c.peak_memory_mib for c in costs]),
    ):
        axes.plot(lengths, values, "o-")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        axes.set_title(what, fontsize=10)
        axes.grid(alpha=0.3)
    return figure


def _row(cost: Cost) -> str:
    shares = [1000 * s / cost.seconds for s in (cost.api_cpu_s, cost.triton_cpu_s)]
    return (
        f"| {cost.seconds:g} s | {1000 * cost.cpu_per_second:.1f} | {shares[0]:.1f} | "
        f"{shares[1]:.1f} | {cost.peak_memory_mib:.0f} MiB | {cost.words} | {cost.wall_s:.0f} s |"
    )
