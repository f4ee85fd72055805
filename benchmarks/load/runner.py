"""Runs a scenario: everybody takes turns, each as a fresh process with the machine to itself."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil

from benchmarks.errors import BenchmarkError
from benchmarks.load import machine, perf_analyzer, targets
from benchmarks.load.clips import SAMPLE_RATE_HZ, Clip, clip_audio, clips, speech
from benchmarks.load.counters import Counters, Growth, read, service_figures, triton_figures
from benchmarks.load.generator import Request, run_load, sender
from benchmarks.load.health_probe import probing
from benchmarks.load.processes import Meter
from benchmarks.load.scenarios import Closed, Load, Scenario
from benchmarks.load.summary import latencies, summarise
from benchmarks.load.targets import SERVICE, Target

_TIMEOUT_S: Final = 900.0
_TOKEN_CHECK: Final = 6
_WARM_UP_SEED: Final = 10_000

Start = Callable[[], AbstractContextManager[Target]]


@dataclass(frozen=True)
class Contender:
    """Somebody who is measured: a name, and what starts them."""

    name: str
    start: Start


def run_scenario(
    scenario: Scenario, contenders: Sequence[Contender], analyzer: Path | None = None
) -> list[dict[str, Any]]:
    """All runs, in the order in which they were made: rounds of A B C, loads within a turn.

    Args:
        analyzer: NVIDIA's perf_analyzer, which then measures a leaf model in the service's turn.

    Raises:
        BenchmarkError: somebody doesn't start, or nothing was answered.
    """
    runs: list[dict[str, Any]] = []
    for round_ in range(scenario.rounds):
        for contender in contenders:
            before = machine.busy_share()
            _say(f"round {round_ + 1}/{scenario.rounds}: {contender.name} starts")
            with contender.start() as target:
                turn = asyncio.run(_turn(scenario, target, round_))
                about = {"round": round_, "busy_before": before}
                runs += [{"target": contender.name, **about, **figures} for figures in turn]
                if analyzer is not None and target.name == SERVICE:
                    analyzed = _analyzed(scenario, target, analyzer)
                    runs += [{"target": perf_analyzer.NAME, **about, **found} for found in analyzed]
    return runs


async def _turn(scenario: Scenario, target: Target, round_: int) -> list[dict[str, Any]]:
    """One process: warm-up, then every load."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=_base(scenario, target), timeout=_TIMEOUT_S, limits=limits
    ) as client:
        warm = _requests(scenario, target, scenario.warm_up, _WARM_UP_SEED + round_)
        for outcome in await run_load(scenario.loads[0], warm, sender(client)):
            if outcome.reply.error is not None:
                raise BenchmarkError(
                    f"{target.name} fails while warming up: {outcome.reply.error} "
                    f"{outcome.reply.body}"
                )
        tokens_per_s = await _tokens_per_s(scenario, target, client)
        found = []
        for number, load in enumerate(scenario.loads):
            seed = round_ * len(scenario.loads) + number
            figures = await _measure(scenario, target, client, load, seed)
            if target.name == SERVICE:
                figures["tokens_per_audio_s"] = tokens_per_s
            elif figures["audio_s"]:
                figures["tokens_per_audio_s"] = round(figures["tokens"] / figures["audio_s"], 3)
            found.append(figures)
            _say(_line(target, load, figures))
        return found


def _analyzed(scenario: Scenario, target: Target, program: Path) -> Iterator[dict[str, Any]]:
    """What perf_analyzer says of each load of a leaf model."""
    url = _base(scenario, target)
    for load in scenario.loads:
        if scenario.model is not None and isinstance(load, Closed):
            _say(f"  {perf_analyzer.NAME}, {load.name}")
            yield perf_analyzer.measure(program, url, scenario, load)


async def _measure(
    scenario: Scenario, target: Target, client: httpx.AsyncClient, load: Load, seed: int
) -> dict[str, Any]:
    """One run of one load, with counters, processes and health watched around it."""
    requests = _requests(scenario, target, scenario.requests, seed)
    meter = Meter(target.pid) if target.pid is not None else None
    own = psutil.Process()
    before, health_s = await _counters(client, target), list[float]()
    own_before = own.cpu_times()
    async with _watching(scenario, target, meter, health_s):
        outcomes = await run_load(load, requests, sender(client))
    own_after = own.cpu_times()
    after = await _counters(client, target)
    figures = {"load": load.name, **summarise(outcomes)}
    figures["health_s"] = latencies(health_s)
    figures["generator_cpu_s"] = round(
        own_after.user + own_after.system - own_before.user - own_before.system, 3
    )
    if meter is not None:
        figures |= asdict(meter.usage())
    growth = {name: Growth(before[name], after[name]) for name in before}
    figures["triton"] = triton_figures(growth["triton"]) if "triton" in growth else None
    figures["service"] = service_figures(growth["service"]) if "service" in growth else None
    return figures


def _requests(scenario: Scenario, target: Target, count: int, seed: int) -> list[Request]:
    """The same audio for everybody who gets the same seed, encoded as the target takes it."""
    if scenario.model is not None:
        return list(_window_requests(scenario, target, count, seed))
    found = clips(scenario.lengths_s, count, seed)
    return [_request(scenario, target, clip) for clip in found]


def _request(scenario: Scenario, target: Target, clip: Clip) -> Request:
    if target.name == SERVICE:
        return targets.upload(clip, scenario.options, target.headers)
    if target.name == "in-process-fastapi":
        return targets.upload(clip, {}, {})
    return targets.raw(clip)


def _window_requests(
    scenario: Scenario, target: Target, count: int, seed: int
) -> Iterator[Request]:
    assert scenario.model is not None
    pool, rng = speech(), np.random.default_rng(seed)
    audio_s = scenario.windows_s * scenario.batch
    for _ in range(count):
        audio = clip_audio(pool, audio_s, rng)
        windows = audio.reshape(scenario.batch, round(scenario.windows_s * SAMPLE_RATE_HZ))
        if target.name == SERVICE:
            yield targets.windows_for_triton(scenario.model, windows, audio_s)
        else:
            yield targets.windows_for_peer(windows, audio_s)


def _base(scenario: Scenario, target: Target) -> str:
    if scenario.model is None or target.name != SERVICE:
        return target.url
    if target.triton_url is None:
        raise BenchmarkError(f"{scenario.name} asks Triton itself: say where with --triton-url")
    return target.triton_url


async def _tokens_per_s(
    scenario: Scenario, target: Target, client: httpx.AsyncClient
) -> float | None:
    """Text tokens that the service writes for a second of audio, on a few clips.

    Analyses don't count tokens, the OpenAI route's segments carry them. Peers count their own.
    """
    if target.name != SERVICE or scenario.model is not None:
        return None
    form = {"model": "whisper-1", "language": "en", "response_format": "verbose_json"}
    tokens, audio_s = 0, 0.0
    for clip in clips(scenario.lengths_s, _TOKEN_CHECK, _WARM_UP_SEED - 1):
        response = await client.post(
            "/v1/audio/transcriptions",
            data=form,
            files={"file": ("clip.wav", clip.wav)},
            headers=dict(target.headers),
        )
        if not response.is_success:
            raise BenchmarkError(f"counting tokens: {response.status_code} {response.text[:300]}")
        ids = [token for s in response.json()["segments"] for token in s["tokens"]]
        tokens += sum(token < _FIRST_SPECIAL for token in ids)
        audio_s += clip.duration_s
    return round(tokens / audio_s, 3)


_FIRST_SPECIAL: Final = 50_257


async def _counters(client: httpx.AsyncClient, target: Target) -> dict[str, Counters]:
    urls = {"service": target.metrics_url, "triton": target.triton_metrics_url}
    headers = {"service": target.headers, "triton": {}}  # the key is the service's alone
    try:
        return {
            name: await read(client, url, headers[name])
            for name, url in urls.items()
            if url is not None
        }
    except httpx.HTTPError as error:
        raise BenchmarkError(f"the metrics of {target.name} can't be read: {error!r}") from error


@contextlib.asynccontextmanager
async def _watching(
    scenario: Scenario, target: Target, meter: Meter | None, health_s: list[float]
) -> AsyncIterator[None]:
    """Samples the processes and asks for /health while the block runs."""
    with contextlib.ExitStack() as stack:
        if scenario.probe_health and target.name == SERVICE:
            stack.enter_context(probing(f"{target.url}/health", target.headers, health_s))
        if meter is None:
            yield
            return
        watching = asyncio.create_task(meter.watch())
        try:
            yield
        finally:
            watching.cancel()
            for ended in await asyncio.gather(watching, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended


def _line(target: Target, load: Load, figures: dict[str, Any]) -> str:
    latency = figures["latency_s"] or {"p50": float("nan"), "p99": float("nan")}
    errors = f", errors {figures['errors']}" if figures["errors"] else ""
    return (
        f"  {target.name}, {load.name}: {figures['audio_s_per_s']:.1f} s of audio a second, "
        f"p50 {latency['p50']:.3f} s, p99 {latency['p99']:.3f} s{errors}"
    )


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def local_service(start: str, repository: Path | None, scenario: Scenario) -> Contender:
    """The service of this checkout."""
    return Contender(SERVICE, lambda: targets.service(start, repository, scenario.settings))


def remote_service(
    url: str, api_key: str | None, triton_metrics_url: str | None, triton_url: str | None
) -> Contender:
    """A service that runs already, anywhere."""
    headers = {"x-api-key": api_key} if api_key else {}
    target = Target(SERVICE, url, headers, None, f"{url}/metrics", triton_metrics_url, triton_url)
    return Contender(SERVICE, lambda: contextlib.nullcontext(target))


def local_peer(python: Path, name: str, weights: Path, cores: int) -> Contender:
    """A peer in its own environment."""
    return Contender(name, lambda: targets.peer(python, name, weights, cores))
