"""Load, its figures, and the reports made of them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from python_multipart.multipart import MultipartParser

from benchmarks import table
from benchmarks.cli import main
from benchmarks.load import perf_analyzer, report
from benchmarks.load.clips import clips
from benchmarks.load.counters import Growth, service_figures, triton_figures
from benchmarks.load.generator import Outcome, Reply, Request, run_load
from benchmarks.load.scenarios import SCENARIOS, Closed, Open
from benchmarks.load.summary import ratios, spread, summarise
from benchmarks.load.targets import SERVICE, upload, windows_for_triton
from benchmarks.peers import PEERS
from benchmarks.peers.interface import Floats, Heard
from benchmarks.peers.server import TRANSCRIBERS, WINDOW_MODELS, Batches

REQUESTS = [Request("/", b"", {}, 2.0) for _ in range(8)]


async def test_an_open_load_counts_from_when_a_request_was_due() -> None:
    """One stall of 0.4 s must show in every request that was due meanwhile, not in one alone.

    A server that does one thing at a time stalls at its first request; the others queue behind.
    """
    free = asyncio.Lock()
    stalls = iter([0.4])

    async def send(_: Request) -> Reply:
        async with free:
            await asyncio.sleep(next(stalls, 0.0))
        return Reply({}, None)

    outcomes = await run_load(Open(20.0), REQUESTS, send)
    assert [o.due_s for o in outcomes] == pytest.approx([n / 20 for n in range(8)])
    latencies = [o.latency_s for o in outcomes]
    for due_s, latency_s in zip([o.due_s for o in outcomes], latencies, strict=True):
        assert latency_s == pytest.approx(max(0.0, 0.4 - due_s), abs=0.15)
    assert sum(latency_s > 0.1 for latency_s in latencies) >= 5


async def test_a_late_generator_is_seen_and_its_delay_is_counted() -> None:
    async def send(_: Request) -> Reply:
        time.sleep(0.1)  # noqa: ASYNC251 - it is the loop that shall be blocked
        return Reply({}, None)

    outcomes = await run_load(Open(100.0), REQUESTS[:4], send)
    assert summarise(outcomes)["sent_late_s"] > 0.1
    assert outcomes[-1].latency_s > 0.3


async def test_a_closed_load_keeps_exactly_so_many_requests_in_flight() -> None:
    flying, most = 0, 0

    async def send(_: Request) -> Reply:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        return Reply({}, None)

    outcomes = await run_load(Closed(3), REQUESTS, send)
    assert (len(outcomes), most, flying) == (8, 3, 0)
    assert all(o.due_s == o.sent_s for o in outcomes)


def outcome(due_s: float, done_s: float, error: str | None = None, **body: Any) -> Outcome:
    return Outcome(due_s, due_s, done_s, 10.0, Reply(body, error))


def test_the_figures_of_a_run() -> None:
    figures = summarise(
        [
            outcome(1.0, 2.0, timings_ms={"decode": 4.0}, tokens=30),
            outcome(1.0, 5.0, timings_ms={"decode": 8.0, "whisper": 100.0}, tokens=31),
            outcome(2.0, 2.1, error="429 TooBusy"),
        ]
    )
    assert figures["wall_s"] == 4.0
    assert figures["audio_s_per_s"] == 5.0, "what was turned away is no work done"
    assert figures["errors"] == {"429 TooBusy": 1}
    assert figures["latency_s"] == pytest.approx(
        {"p50": 2.5, "p95": 3.85, "p99": 3.97, "max": 4.0, "mean": 2.5}
    )
    assert figures["stages_ms"] == {"decode": 6.0, "whisper": 50.0}
    assert figures["tokens"] == 61
    assert summarise([outcome(0, 1, error="ReadError")])["latency_s"] is None


def test_ratios_are_taken_round_by_round() -> None:
    """The second round was slow for both: the ratio doesn't see it."""
    assert spread([10.0, 5.0, 12.0]) == {"median": 10.0, "min": 5.0, "max": 12.0}
    assert ratios([10.0, 5.0, 12.0], [5.0, 2.5, 6.0]) == {"median": 2, "min": 2, "max": 2}


def test_counters_are_read_as_what_they_grew_by() -> None:
    def triton(count: float, executions: float, queue_us: float) -> dict[Any, float]:
        labels = (("model", "whisper"), ("version", "1"))
        return {
            ("nv_inference_request_success", labels): count,
            ("nv_inference_count", labels): count,
            ("nv_inference_exec_count", labels): executions,
            ("nv_inference_queue_duration_us", labels): queue_us,
            ("nv_inference_compute_infer_duration_us", labels): 1000 * count,
        }

    found = triton_figures(Growth(triton(100, 50, 9e6), triton(108, 52, 9e6 + 16_000)))
    assert found["whisper"]["mean_batch"] == 4.0
    assert found["whisper"]["queue_ms"] == 2.0
    assert found["whisper"]["compute_ms"] == 1.0
    assert triton_figures(Growth(triton(1, 1, 0), triton(1, 1, 0))) == {}
    lookups = [("stage", "whisper"), ("outcome", "hit")]
    key = ("voice_analytics_cache_lookups", tuple(sorted(lookups)))
    assert service_figures(Growth({key: 2.0}, {key: 5.0}))["cache_hits"] == 3.0


def test_how_late_the_event_loop_was_is_told_by_its_buckets() -> None:
    def looks(**by_bound: float) -> dict[Any, float]:
        name = "voice_analytics_event_loop_lag_seconds_bucket"
        return {(name, (("le", bound),)): n for bound, n in by_bound.items()}

    before = looks(**{"0.001": 10, "0.02": 10, "0.5": 10, "+Inf": 10})
    after = looks(**{"0.001": 600, "0.02": 1005, "0.5": 1010, "+Inf": 1010})
    found = service_figures(Growth(before, after))
    assert found["event_loop_lag_s"] == {"p50": 0.001, "p99": 0.02, "p99.9": 0.5, "max": 0.5}
    assert service_figures(Growth({}, {}))["event_loop_lag_s"] is None


def test_clips_are_the_same_for_everybody_and_never_twice_the_same() -> None:
    first, again = (list(clips((1.0, 2.0), 5, seed=3)) for _ in range(2))
    assert first == again
    everything = [*first, *clips((1.0, 2.0), 5, seed=4)]
    assert len({clip.wav for clip in everything}) == 10
    assert all(1.0 <= clip.duration_s <= 2.0 for clip in everything)
    whole_pool = list(clips((25.0, 25.0), 2, seed=1))
    assert whole_pool[0].duration_s == 25.0, "longer than the recordings: it goes round"


def test_an_upload_is_the_form_that_a_browser_would_send() -> None:
    (clip,) = clips((1.0, 1.0), 1, seed=0)
    request = upload(clip, {"language": "en"}, {"x-api-key": "k"})
    parts: list[bytes] = []
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": lambda: parts.append(b""),
            "on_part_data": lambda data, start, end: parts.append(parts.pop() + data[start:end]),
        },
    )
    parser.write(request.content)
    parser.finalize()
    assert parts == [b"en", clip.wav]
    assert request.headers["x-api-key"] == "k"


def test_windows_are_binary_tensors() -> None:
    windows = np.arange(6, dtype=np.float32).reshape(2, 3)
    request = windows_for_triton("emotion", windows, 1.0)
    size = int(request.headers["inference-header-content-length"])
    head = json.loads(request.content[:size])
    assert head["inputs"][0]["shape"] == [2, 3]
    assert head["inputs"][0]["parameters"]["binary_data_size"] == 24
    assert np.array_equal(np.frombuffer(request.content[size:], np.float32), windows.ravel())


class _Engine:
    """Notes the batches that it is given; the first call waits for the others to queue up."""

    workers = 1
    max_batch = 3

    def __init__(self) -> None:
        self.batches: list[int] = []

    def transcribe(self, clips: Sequence[Floats]) -> list[Heard]:
        time.sleep(0.2 if not self.batches else 0)
        self.batches.append(len(clips))
        if any(len(clip) == 0 for clip in clips):
            raise ValueError("empty")
        return [Heard(str(len(clip)), len(clip)) for clip in clips]


async def test_a_peers_engine_gets_the_clips_that_wait_as_one_batch() -> None:
    engine = _Engine()
    batches = Batches(engine)
    sizes = range(1, 8)
    asked = [asyncio.to_thread(batches.ask, np.zeros(size, np.float32)) for size in sizes]
    answers = await asyncio.gather(*asked)
    assert [answer["tokens"] for answer in answers] == list(sizes), "each got its own"
    assert sum(engine.batches) == 7 and max(engine.batches) == 3
    with pytest.raises(ValueError, match="empty"):
        batches.ask(np.zeros(0, np.float32))
    assert batches.ask(np.zeros(2, np.float32))["tokens"] == 2, "the worker lives on"


def test_every_peer_of_a_scenario_exists() -> None:
    assert set(PEERS) == {*TRANSCRIBERS, *WINDOW_MODELS, "in-process-fastapi"}
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert set(scenario.peers) <= set(PEERS)


def results_of(name: str, quiet: bool = True) -> dict[str, Any]:
    def run(target: str, round_: int, load: str, speed: float) -> dict[str, Any]:
        return {
            "target": target,
            "round": round_,
            "busy_before": 0.01 if quiet else 0.5,
            "load": load,
            **summarise([outcome(0, 10.0 / speed), outcome(0, 20.0 / speed)]),
            "tokens_per_audio_s": 3.3,
            "health_s": None,
            "triton": None,
            "service": None,
        }

    speeds = [(SERVICE, 100.0, 80.0), ("slow", 20.0, 20.0), ("quick", 50.0, 20.0)]
    runs = [
        run(target, n, load, speed)
        for n in range(2)
        for load in ("1 client", "4 clients")
        for target, *by_round in speeds
        for speed in by_round[n : n + 1]
    ]
    scenario = {"name": name, "what": "a trial", "lengths_s": [1, 2], "requests": 2, "rounds": 2}
    machine = {
        "processor": "Abacus",
        "cores": 2,
        "memory_bytes": 2**34,
        "gpus": [],
        "system": "Linux",
        "commit": "abc",
        "measured_at": "2026-01-01T00:00:00+00:00",
    }
    return {"scenario": scenario | {"weights": "bundled"}, "machine": machine, "runs": runs}


def test_a_report_compares_round_by_round_and_the_table_names_the_best_peer(tmp_path: Path) -> None:
    path = report.write(results_of("trial"), tmp_path)
    said = path.read_text()
    assert "| quick | 35.0 (20.0–50.0) | 3.00 (2.00–4.00) |" in said
    assert "prove nothing" not in said
    assert {p.name for p in tmp_path.iterdir()} == {"trial.json", "trial.md", "trial.png"}
    line = report.table(tmp_path).splitlines()[2]
    assert line.startswith("| [trial](results/trial.md) | 1 client | 90.0 (80.0–100.0) |")
    assert "| quick | 3.00 (2.00–4.00) |" in line
    assert "prove nothing" in report.as_markdown(results_of("trial", quiet=False))


def test_nvidias_figures_stand_beside_ours_and_are_no_peers(tmp_path: Path) -> None:
    """The CSV is that of perf_analyzer 2.51.0 for batches of 8 windows of 2 s."""
    found = perf_analyzer.figures(
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency\n"
        "1,468.857,313,2586,3253,169,10583,140,0,13420,27075,37151,50597\n\n",
        windows_s=2.0,
    )
    assert found["audio_s_per_s"] == 937.714
    assert found["latency_s"] == {"p50": 0.0134, "p95": 0.0372, "p99": 0.0506}
    results = results_of("trial")
    about = {"target": perf_analyzer.NAME, "busy_before": 0.01, "load": "1 client"}
    results["runs"] += [{**about, "round": n, **found} for n in range(2)]
    said = report.write(results, tmp_path).read_text()
    assert "| perf_analyzer | 937.7 (937.7–937.7) | 0.10 (0.09–0.11) | 0.013" in said
    assert "| quick | 3.00 (2.00–4.00) |" in report.table(tmp_path).splitlines()[2]


def test_the_readmes_table_is_made_from_the_committed_results() -> None:
    assert table.README.read_text() == report.refresh_table(
        table.README, report.RESULTS
    ), "run python -m benchmarks table"


def test_no_committed_result_was_measured_on_a_busy_machine() -> None:
    for path in report.RESULTS.glob("*.json"):
        assert "prove nothing" not in report.as_markdown(json.loads(path.read_text())), path


def test_every_command_and_scenario_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    readme = table.README.read_text()
    for name in SCENARIOS:
        assert f"`{name}`" in readme, name
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        assert f"python -m benchmarks {command}" in readme, command


def test_wrong_usage_of_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["gpu"], "--url"),
        (["words-1", "--work", str(tmp_path)], "python -m benchmarks prepare base"),
        (["smoke", "--rounds", "0"], "--rounds"),
        (["smoke", "--peers-python", "python", "--peers", "nobody"], "no peer nobody"),
    ):
        assert main(["run", *arguments]) == 2
        assert message in capsys.readouterr().err
