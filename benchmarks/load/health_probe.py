"""Asks a path again and again, from a process of its own.

Within the generator's process it would wait behind the generator's own uploads and samples, and
their time would look like the service's.

  python -m benchmarks.load.health_probe http://127.0.0.1:6500/health 0.1
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

import httpx

from benchmarks.errors import BenchmarkError
from benchmarks.load.clips import ROOT

INTERVAL_S: Final = 0.1
TIMEOUT_S: Final = 60.0


@contextlib.contextmanager
def probing(url: str, headers: Mapping[str, str], latencies_s: list[float]) -> Iterator[None]:
    """Fills `latencies_s` when the block ends, counted from when each request was due.

    Raises:
        BenchmarkError: the probe ended early.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, url, str(INTERVAL_S), json.dumps(dict(headers))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    process.stdout.readline()  # it is connected
    try:
        yield
    finally:
        said, _ = process.communicate()
        if process.returncode != 0:
            raise BenchmarkError(f"the probe of {url} ended with {process.returncode}")
        latencies_s += json.loads(said)


def main(url: str, interval_s: float, headers: Mapping[str, str]) -> None:
    """Asks until the standard input is closed; then writes the latencies, failures as infinity."""
    over = threading.Event()
    latencies_s: list[float] = []
    with httpx.Client(timeout=TIMEOUT_S, headers=dict(headers)) as client:
        client.get(url)  # the connection's own cost isn't the answer's
        print("ready", flush=True)
        threading.Thread(target=_until_closed, args=(over,), daemon=True).start()
        started, number = time.perf_counter(), 0
        while not over.wait(max(0.0, started + number * interval_s - time.perf_counter())):
            due = started + number * interval_s
            try:
                client.get(url)
                latencies_s.append(time.perf_counter() - due)
            except httpx.HTTPError:
                latencies_s.append(float("inf"))
            number += 1
    print(json.dumps(latencies_s))


def _until_closed(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
