"""Records a load: calls that come by chance, answered by the service of this checkout.

Measures first how long Whisper takes for batches of each size, straight through Triton; then plays
the calls and writes

  NAME.csv   every call: when it came, its seconds of audio, how long Whisper's stage took
  NAME.json  the measured batches, Triton's counters every few seconds, the machine

which `python -m benchmarks autoscale` simulates and compares itself with:

  python -m benchmarks record --work work --weights base --profile 60@2 60@6 60@1 --out recorded
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from benchmarks.errors import BenchmarkError, UsageError
from benchmarks.load import machine, targets
from benchmarks.load.clips import SAMPLE_RATE_HZ, clip_audio, clips, speech
from benchmarks.load.counters import Counters, read
from benchmarks.load.generator import Outcome, Request, sender
from benchmarks.load.scenarios import WORDS_ONLY
from benchmarks.prepare import MARK
from benchmarks.scaling import arrivals

SAMPLE_EVERY_S: Final = 5.0
_BATCH_SIZES: Final = (1, 2, 4, 8)
_BATCH_LENGTHS_S: Final = (5.0, 25.0)
_REPEATS: Final = 2
_COUNTERS: Final = {
    "requests": "nv_inference_request_success",
    "executions": "nv_inference_exec_count",
    "queue_us": "nv_inference_queue_duration_us",
    "compute_us": "nv_inference_compute_infer_duration_us",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("--work", type=Path, default=Path("work"), metavar="DIR", help="where `prepare` wrote")
    add("--weights", default="base", help="a set that `prepare` made (default base)")
    add("--start", default=str(Path(sys.executable).with_name("start")), metavar="COMMAND")
    add(
        "--profile",
        nargs="+",
        type=_step,
        required=True,
        metavar="SECONDS@RATE",
        help="calls a second, one stretch after the other",
    )
    add("--lengths", nargs=2, type=float, default=(5.0, 25.0), metavar="S", help="of the calls")
    add("--seed", type=int, default=7)
    add("--out", type=Path, default=Path("recorded"), metavar="NAME", help="NAME.csv, NAME.json")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: there are no weights.
        BenchmarkError: the service doesn't start, or a call isn't answered.
    """
    folder: Path = parsed.work / parsed.weights
    if not (folder / MARK).exists():
        raise UsageError(f"there are no weights in {folder}: python -m benchmarks prepare")
    lengths_s = (parsed.lengths[0], parsed.lengths[1])
    calls = arrivals.steps(parsed.profile, lengths_s, parsed.seed)
    settings = {"WORKERS": "1", "MAX_CONCURRENT_REQUESTS": "1000"}
    before = machine.busy_share()
    with targets.service(parsed.start, (folder / "repository").resolve(), settings) as target:
        recorded = asyncio.run(_record(target, calls, parsed.seed))
    report = {
        "machine": machine.facts(),
        "busy_before": before,
        "weights": parsed.weights,
        "profile": [{"seconds": s, "calls_per_s": rate} for s, rate in parsed.profile],
        "batches": recorded["batches"],
        "counters": recorded["counters"],
    }
    parsed.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    _write_calls(calls, recorded["outcomes"], parsed.out.with_suffix(".csv"))
    print(f"{len(calls)} calls: {parsed.out}.csv, {parsed.out}.json", file=sys.stderr)
    return 0


async def _record(
    target: targets.Target, calls: Sequence[arrivals.Call], seed: int
) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        batches = await _batches(client, target)
        requests = [
            targets.upload(clip, WORDS_ONLY, target.headers)
            for number, call in enumerate(calls)
            for clip in clips((call.audio_s, call.audio_s), 1, seed * 100_000 + number)
        ]
        counters: list[dict[str, float]] = []
        async with httpx.AsyncClient(base_url=target.url, timeout=300) as api:
            watcher = asyncio.create_task(_sample(client, target, counters))
            try:
                outcomes = await _play(calls, requests, api)
            finally:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
        counters.append(await _totals(client, target, counters[0]["started"]))
    for sample in counters:
        del sample["started"]
    return {"batches": batches, "counters": counters, "outcomes": outcomes}


async def _play(
    calls: Sequence[arrivals.Call], requests: Sequence[Request], api: httpx.AsyncClient
) -> list[Outcome]:
    """Sends every call when it is due.

    Raises:
        BenchmarkError: one isn't answered.
    """
    send, started = sender(api), time.perf_counter()

    async def one(call: arrivals.Call, request: Request) -> Outcome:
        sent_s = time.perf_counter() - started
        reply = await send(request)
        done_s = time.perf_counter() - started
        return Outcome(call.at_s, sent_s, done_s, call.audio_s, reply)

    tasks = []
    for call, request in zip(calls, requests, strict=True):
        await asyncio.sleep(max(0.0, started + call.at_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(call, request)))
    outcomes = list(await asyncio.gather(*tasks))
    errors = sorted({o.reply.error for o in outcomes if o.reply.error is not None})
    if errors:
        raise BenchmarkError(f"calls failed: {', '.join(errors)}")
    return outcomes


async def _sample(
    client: httpx.AsyncClient, target: targets.Target, counters: list[dict[str, float]]
) -> None:
    started = time.perf_counter()
    while True:
        counters.append(await _totals(client, target, started))
        due = started + len(counters) * SAMPLE_EVERY_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def _totals(
    client: httpx.AsyncClient, target: targets.Target, started: float
) -> dict[str, float]:
    assert target.triton_metrics_url is not None
    found = await read(client, target.triton_metrics_url, {})
    totals = {name: _total(found, counter) for name, counter in _COUNTERS.items()}
    return {"at_s": round(time.perf_counter() - started, 3), "started": started, **totals}


def _total(counters: Counters, name: str) -> float:
    return sum(
        value
        for (sample, labels), value in counters.items()
        if sample == name and dict(labels).get("model") == "whisper"
    )


async def _batches(client: httpx.AsyncClient, target: targets.Target) -> list[dict[str, float]]:
    """How long Whisper computes on batches of each size and length, by Triton's own counters."""
    pool, rng, found = speech(), np.random.default_rng(1), []
    first = _batch(clip_audio(pool, 5.0, rng)[np.newaxis])
    await _infer(client, target, first)  # what a first time costs isn't measured
    for length_s in _BATCH_LENGTHS_S:
        for size in _BATCH_SIZES:
            audio = [clip_audio(pool, length_s, rng) for _ in range(size)]
            request = _batch(np.stack(audio))
            before = await _totals(client, target, 0.0)
            for _ in range(_REPEATS):
                await _infer(client, target, request)
            after = await _totals(client, target, 0.0)
            compute_s = (after["compute_us"] - before["compute_us"]) / _REPEATS / 1e6
            found.append({"size": size, "longest_s": length_s, "compute_s": compute_s})
    return found


def _batch(audio: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[bytes, dict[str, str]]:
    size = len(audio)
    assert audio.shape[1] <= 30 * SAMPLE_RATE_HZ
    options = json.dumps({"language": "en", "word_timestamps": False})
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "AUDIO",
                    "datatype": "FP32",
                    "shape": list(audio.shape),
                    "parameters": {"binary_data_size": audio.nbytes},
                },
                {
                    "name": "OPTIONS",
                    "datatype": "BYTES",
                    "shape": [size, 1],
                    "data": [options] * size,
                },
            ]
        }
    ).encode()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return head + audio.tobytes(), headers


async def _infer(
    client: httpx.AsyncClient, target: targets.Target, request: tuple[bytes, dict[str, str]]
) -> None:
    url = f"{target.triton_url}/v2/models/whisper/infer"
    response = await client.post(url, content=request[0], headers=request[1])
    if not response.is_success:
        raise BenchmarkError(f"Triton: {response.status_code} {response.text[:300]}")


def _write_calls(calls: Sequence[arrivals.Call], outcomes: Sequence[Outcome], path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["at_s", "audio_s", "whisper_s", "latency_s"])
        for call, outcome in zip(calls, outcomes, strict=True):
            whisper_s = outcome.reply.body["timings_ms"]["whisper"] / 1000
            values = (call.at_s, call.audio_s, whisper_s, outcome.latency_s)
            rows.writerow([f"{value:.3f}" for value in values])


def _step(text: str) -> tuple[float, float]:
    seconds, _, rate = text.partition("@")
    return float(seconds), float(rate)
