"""Do callers notice a rollout? `python -m benchmarks.rollouts --seconds 90 --clients 32`.

Starts the service on free ports and a folder of its own, and lets the same callers ask it twice for
the same time: once quietly, once while versions change under them: a canary of `emotion` goes from
10 to 50 to 100 percent and is promoted, is rolled back, a Whisper that dies at its first request is
tried on half of the traffic, and all API workers are replaced (SIGHUP).

In a third run, reported by itself, tritonserver is killed (SIGKILL) and another time told to end
(SIGTERM): whoever is in flight waits for its successor, which is longer than a percentile hides.

Every recording is new, so nothing comes from the cache. The second version of `emotion` has its
labels moved by one, so each answer shows which version it came from: an answer whose labels aren't
those of the version that it names is wrong, and so is one whose text isn't that of the recording.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "conversation.wav"
RATE_HZ = 16_000
CLIP_S = 4
GATES = {"min_requests": 10, "agreement": None, "p95_ratio": None}
"""Labels that are moved never agree; latency is what is measured here, not what is judged."""


@dataclass
class Figures:
    """What the callers of one run were told, and how long they waited."""

    asked: list[tuple[float, float]] = field(default_factory=list)
    """When, in seconds of the run, and how long the answer took."""
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    def summary(self, wall_s: float) -> dict[str, Any]:
        ordered = sorted(took_s for _, took_s in self.asked)
        return {
            "wall_s": round(wall_s, 1),
            "answered": len(ordered),
            "failed": len(self.failed),
            "wrong": len(self.wrong),
            "first_failures": self.failed[:3] + self.wrong[:3],
            "p50_s": percentile(ordered, 0.5),
            "p95_s": percentile(ordered, 0.95),
            "p99_s": percentile(ordered, 0.99),
            "longest_s": percentile(ordered, 1.0),
            "by_version": dict(sorted(self.versions.items())),
        }

    def series(self) -> list[tuple[float, float]]:
        return [(round(at_s, 2), round(took_s, 3)) for at_s, took_s in sorted(self.asked)]


@dataclass(frozen=True)
class Service:
    """A service of our own."""

    process: subprocess.Popen[bytes]
    url: str
    repository: Path

    def triton_pid(self) -> int:
        try:
            return int((self.repository.parent / "triton" / "tritonserver.pid").read_text())
        except (FileNotFoundError, ValueError):  # it is being replaced
            return 0

    def rollout(self, model: str, body: dict[str, Any]) -> int:
        answer = httpx.post(f"{self.url}/models/{model}/rollouts", json=body, timeout=60)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def wait(self, model: str, rollout: int) -> dict[str, Any]:
        """Until it is over."""
        while True:
            answer = httpx.get(f"{self.url}/models/{model}/rollouts/{rollout}", timeout=60)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            if found["status"] not in ("preparing", "running", "paused"):
                return found
            time.sleep(0.25)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return round(ordered[math.ceil(share * len(ordered)) - 1], 3) if ordered else None


def recording(seed: int) -> bytes:
    """A WAV file of the sample's first seconds under noise that nobody hears."""
    with wave.open(str(SAMPLE)) as file:
        samples = np.frombuffer(file.readframes(CLIP_S * RATE_HZ), "<i2").astype(np.int32)
    noisy = samples + np.random.default_rng(seed).integers(-3, 4, len(samples))
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.clip(noisy, -32768, 32767).astype("<i2").tobytes())
    return target.getvalue()


@contextmanager
def running(
    folder: Path, workers: int, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """The service of this checkout, all it writes in `folder`; a Ctrl-C here doesn't reach it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    free = {f"TRITON_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    own = {"DATA_DIR": str(folder), "PORT": str(port), "WORKERS": str(workers), **free}
    with open(folder / "service.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from api.main import start; start()"],
            cwd=ROOT,
            env=os.environ | own | dict(settings or {}),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _is_ready(url), 120)
        yield Service(process, url, folder / "model_repository")
    finally:
        process.terminate()
        process.wait(90)


def publish(repository: Path, model: str, version: str, spoil: Callable[[Path, Any], None]) -> None:
    """Publish a changed copy of version 1, in one step, as the exporter does."""
    staging = repository / f".staging-{model}-{version}"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / model / "1", staging, ignore=ignored)
    content = json.loads((staging / "manifest.json").read_text())
    content |= {"version": version, "checkpoint": f"copy-{version}"}
    spoil(staging, content)
    content["files"] = {
        path.relative_to(staging).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
        }
        for path in staging.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    (staging / "manifest.json").write_text(json.dumps(content))
    staging.rename(repository / model / version)


def moved_labels(folder: Path, content: dict[str, Any]) -> None:
    content["labels"] = [*content["labels"][1:], content["labels"][0]]


def dying(folder: Path, content: dict[str, Any]) -> None:
    code = (folder / "model.py").read_text()
    place = "responses: list[Any] = [None] * len(requests)"
    (folder / "model.py").write_text(
        code.replace(place, f"import os; os._exit(9)\n        {place}")
    )


def ask_for(
    service: Service, clients: int, seconds: float, first_seed: int, busy: Callable[[], None]
) -> tuple[Figures, float]:
    """Let callers ask for so long, and until `busy`, which runs meanwhile, has come back."""
    figures, lock, over = Figures(), threading.Lock(), threading.Event()
    labels = json.loads((service.repository / "emotion/1/manifest.json").read_text())["labels"]
    seeds = iter(range(first_seed, first_seed + 10**6))
    expected = httpx.post(
        f"{service.url}/audio/analyze", files={"file": recording(next(seeds))}, timeout=120
    ).json()

    def check(content: dict[str, Any]) -> str | None:
        version = content["models"]["emotion"]["version"]
        moved = {"1": 0, "2": 1}[version]
        for segment, known in zip(content["segments"], expected["segments"], strict=False):
            base = labels.index(known["emotion"]["label"])
            if segment["emotion"]["label"] != labels[(base + moved) % len(labels)]:
                return f"emotion {version}: {segment['emotion']['label']}"
        if content["transcription"] != expected["transcription"]:
            return f"text: {content['transcription']}"
        return None

    def ask() -> None:
        while not over.is_set():
            with lock:
                data = recording(next(seeds))
            asked = time.monotonic()
            try:
                answer = httpx.post(
                    f"{service.url}/audio/analyze",
                    files={"file": data},
                    headers={"Connection": "close"},
                    timeout=120,
                )
            except httpx.HTTPError as error:
                figures.failed.append(repr(error))
                continue
            took_s = time.monotonic() - asked
            with lock:
                if answer.status_code != 200:
                    figures.failed.append(f"{answer.status_code} {answer.text[:200]}")
                    continue
                content = answer.json()
                figures.asked.append((asked - began, took_s))
                mistake = check(content)
                if mistake is not None:
                    figures.wrong.append(mistake)
                for model, about in content["models"].items():
                    figures.versions[f"{model} {about['version']}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        busy()
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return figures, time.monotonic() - began


def roll(service: Service, events: list[dict[str, Any]], step_s: float) -> None:
    """Change versions under the callers; `events` is told what happened when."""
    began = time.monotonic()

    def happened(what: str, **about: Any) -> None:
        events.append({"at_s": round(time.monotonic() - began, 1), "event": what, **about})
        print(events[-1], flush=True)

    canary = {"version": "2", "steps": [10, 50, 100], "step_seconds": step_s, "auto_promote": True}
    first = service.rollout("emotion", canary | {"gates": GATES})
    happened("canary 10, 50, 100 began")
    done = service.wait("emotion", first)
    happened(f"canary {done['status']}", reason=done["reason"])
    url = f"{service.url}/models/emotion/rollouts/{first}/rollback"
    back = httpx.post(url, timeout=60).raise_for_status().json()
    done = service.wait("emotion", back["id"])
    happened(f"rollback {done['status']}", version=done["version"])
    bad = {"version": "2", "weight": 50, "gates": GATES | {"golden": False, "min_requests": 50}}
    done = service.wait("whisper", service.rollout("whisper", bad))
    happened(f"bad version {done['status']}", reason=done["reason"])
    service.process.send_signal(signal.SIGHUP)
    happened("API workers are replaced")


def restart(service: Service, events: list[dict[str, Any]], pause_s: float) -> None:
    """End tritonserver twice under the callers; its successor is the service's own affair."""
    began = time.monotonic()
    for how in (signal.SIGKILL, signal.SIGTERM):
        time.sleep(pause_s)
        pid = service.triton_pid()
        os.kill(pid, how)
        killed = time.monotonic()
        _until(lambda pid=pid: service.triton_pid() not in (0, pid), 60)  # type: ignore[misc]
        events.append(
            {
                "at_s": round(killed - began, 1),
                "event": f"tritonserver got {how.name}",
                "successor_started_after_s": round(time.monotonic() - killed, 1),
            }
        )
        print(events[-1], flush=True)
    time.sleep(pause_s)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollouts", description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=90.0, help="least length of each run")
    parser.add_argument("--step-seconds", type=float, default=8.0, help="of the canary")
    parser.add_argument(
        "--restart-pause-seconds", type=float, default=8.0, help="before and after each restart"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON file to write, with a PNG beside it")
    wanted = parser.parse_args(arguments)
    events: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), wanted.workers) as service:
        publish(service.repository, "emotion", "2", moved_labels)
        publish(service.repository, "whisper", "2", dying)
        ask_for(service, wanted.clients, 5, 0, lambda: None)  # warm
        rolled, rolled_s = ask_for(
            service,
            wanted.clients,
            wanted.seconds,
            10**7,
            lambda: roll(service, events, wanted.step_seconds),
        )
        _until(lambda: _is_ready(service.url), 120)
        quiet, quiet_s = ask_for(service, wanted.clients, rolled_s, 2 * 10**7, lambda: None)
        restarts: list[dict[str, Any]] = []
        restarted, restarted_s = ask_for(
            service,
            wanted.clients,
            0.0,
            3 * 10**7,
            lambda: restart(service, restarts, wanted.restart_pause_seconds),
        )
    result = {
        "clients": wanted.clients,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "quiet": quiet.summary(quiet_s),
        "rolled": rolled.summary(rolled_s),
        "events": events,
        "restarted": restarted.summary(restarted_s),
        "restarts": restarts,
    }
    p99 = [result[run]["p99_s"] for run in ("rolled", "quiet")]
    result["p99_ratio"] = round(p99[0] / p99[1], 3) if all(p99) else None
    print(json.dumps(result, indent=2))
    if wanted.output is not None:
        runs = {"quiet": quiet, "rolled": rolled, "restarted": restarted}
        asked = {name: figures.series() for name, figures in runs.items()}
        wanted.output.write_text(json.dumps(result | {"asked": asked}) + "\n")
        draw(runs, {"rolled": events, "restarted": restarts}).savefig(
            wanted.output.with_suffix(".png"), dpi=120
        )
    return 1 if any(run.failed or run.wrong for run in (rolled, quiet, restarted)) else 0


def draw(runs: Mapping[str, Figures], events: Mapping[str, list[dict[str, Any]]]) -> Figure:
    """Every answer's wait by when it was asked for, one picture a run, and what happened then."""
    figure = Figure(figsize=(10, 3 * len(runs)), layout="constrained")
    places = figure.subplots(len(runs), 1, sharex=True, sharey=True)
    for axes, (name, figures) in zip(places, runs.items(), strict=True):
        if figures.asked:
            axes.plot(*zip(*figures.series(), strict=True), ".", markersize=3)
        axes.set_title(name, fontsize=10)
        axes.set_ylabel("s")
        axes.grid(alpha=0.3)
        for event in events.get(name, []):
            axes.axvline(event["at_s"], color="#d62728", alpha=0.6)
            place = (event["at_s"], 0.02)
            axes.annotate(
                event["event"],
                place,
                xycoords=("data", "axes fraction"),
                fontsize=7,
                rotation=90,
                ha="right",
            )
    places[0].set_ylim(bottom=0)
    places[-1].set_xlabel("asked at, seconds of the run")
    return figure


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def _until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the service is not ready")
        time.sleep(0.25)


if __name__ == "__main__":
    sys.exit(main())
