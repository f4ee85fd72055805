"""The autoscaler's algorithm against its documentation, and the simulation around it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from api.settings import PROJECT_ROOT
from benchmarks.cli import main
from benchmarks.errors import UsageError
from benchmarks.scaling import arrivals, capacity, manifests
from benchmarks.scaling.arrivals import Call
from benchmarks.scaling.batching import MAX_BATCH, MAX_DELAY_S, BatchCost, chunks
from benchmarks.scaling.figures import FIGURES
from benchmarks.scaling.hpa import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Autoscaler,
    Policy,
    Rules,
    Scaling,
    desired_replicas,
)
from benchmarks.scaling.simulation import Outcome, Simulation

COMPONENTS = PROJECT_ROOT / "deploy/kubernetes/components"


@pytest.mark.parametrize(
    ("current", "metric", "target", "wanted"),
    [
        (3, 0.2, 0.1, 6),  # "if the current metric value is 200m, and the desired value is 100m, …
        (3, 0.05, 0.1, 2),  # … doubled; … 50m … halved" (and rounded up)
        (5, 1.09, 1.0, 5),  # within the tolerance of 0.1: left alone
        (5, 0.91, 1.0, 5),
        (5, 1.11, 1.0, 6),
        (5, 0.0, 1.0, 0),
    ],
)
def test_what_a_metric_asks_for(current: int, metric: float, target: float, wanted: int) -> None:
    """The documentation's "Algorithm details"."""
    assert desired_replicas(current, current, metric, target) == wanted


def test_pods_that_are_not_ready_do_not_multiply() -> None:
    """A metric that stays high while pods start must not ask for more and more of them."""
    assert desired_replicas(current=6, ready=2, metric=3.0, target=1.0) == 6


def walk(scaling: Scaling, current: int, metric: float, every_s: float, steps: int) -> list[int]:
    scaler, found = Autoscaler(scaling), []
    for step in range(steps):
        current = scaler.sync(step * every_s, current, current, metric)
        found.append(current)
    return found


def test_the_documentations_example_of_scaling_down() -> None:
    """ "Scaling policies": 80 replicas, 4 pods or 10% a minute, whichever is more: 8 pods first,
    at 72 again 8 (7.2 rounded up); once below 40, 4 at a time."""
    policies = (Policy("Pods", 4, 60), Policy("Percent", 10, 60))
    found = walk(Scaling(1.0, 10, 100, down=Rules(0, policies)), 80, 0.01, 60, 12)
    assert found[:3] == [72, 64, 57]
    assert found[3:8] == [51, 45, 40, 36, 32]
    assert found[8:] == [28, 24, 20, 16]


def test_within_a_policys_period_only_so_much_is_changed() -> None:
    """The default upwards: 4 pods or as many again, in 15 s; here asked every 5 s."""
    found = walk(Scaling(1.0, 1, 100, up=DEFAULT_UP), 1, 50.0, 5, 7)
    assert found == [5, 5, 5, 10, 10, 10, 20]


def test_the_least_change_and_none() -> None:
    policies = (Policy("Pods", 4, 60), Policy("Percent", 10, 60))
    least = Scaling(1.0, 1, 100, down=Rules(0, policies, "Min"))
    assert walk(least, 80, 0.01, 60, 1) == [76]
    none = Scaling(1.0, 1, 100, down=Rules(0, policies, "Disabled"))
    assert walk(none, 80, 0.01, 60, 3) == [80, 80, 80]


def test_the_largest_recommendation_of_the_window_holds_downwards() -> None:
    """The default: 300 s pass before a lower number is believed; a higher one starts them anew."""
    scaler = Autoscaler(Scaling(1.0, 1, 100, down=DEFAULT_DOWN))
    current, found = 4, []
    for step in range(30):
        metric = 1.0 if step in (0, 4) else 0.25
        current = scaler.sync(step * 15.0, current, current, metric)
        found.append(current)
    assert found.index(1) == 4 + 300 // 15
    assert set(found[: found.index(1)]) == {4}


def test_the_smallest_recommendation_of_the_window_holds_upwards() -> None:
    up = Rules(60, DEFAULT_UP.policies)
    scaler = Autoscaler(Scaling(1.0, 1, 100, up=up))
    found = [scaler.sync(at_s, 2, 2, m) for at_s, m in [(0, 1.0), (15, 3.0), (45, 2.0), (75, 3.0)]]
    assert found == [2, 2, 2, 4]


def test_bounds_come_before_all_else() -> None:
    scaling = Scaling(1.0, 2, 8)
    assert Autoscaler(scaling).sync(0, 12, 12, 50.0) == 8
    assert Autoscaler(scaling).sync(0, 1, 1, 0.0) == 2
    assert max(walk(scaling, 2, 50.0, 15, 5)) == 8


def test_both_components_tell_the_autoscaler_the_same() -> None:
    keda = manifests.read(COMPONENTS / "keda/triton.yaml")
    assert keda == manifests.read(COMPONENTS / "prometheus-adapter/triton.yaml")
    assert keda.up.policies and keda.down.policies
    with pytest.raises(UsageError):
        manifests.read(PROJECT_ROOT / "deploy/kubernetes/base/triton.yaml")


def test_the_simulated_batcher_is_the_configured_one() -> None:
    config = (PROJECT_ROOT / "model_repository/whisper/config.pbtxt").read_text()
    assert f"max_batch_size: {MAX_BATCH}\n" in config
    assert f"max_queue_delay_microseconds: {MAX_DELAY_S * 1e6:.0f}\n" in config


def test_costs_are_found_again() -> None:
    true = BatchCost(0.2, 0.05, 0.03)
    measured = [(n, s, true.seconds(n, s)) for n in (1, 2, 4, 8) for s in (5.0, 25.0)]
    found = BatchCost.fitted(measured)
    assert found.seconds(3, 40.0) == pytest.approx(true.seconds(3, 40.0))
    cheaper = [(n, s, 0.5 + 0.01 * n * s - 0.02 * n) for n, s in ((1, 5), (8, 5), (1, 25))]
    assert min(vars(BatchCost.fitted(cheaper)).values()) >= 0


def simulate(calls: list[Call], scaling: Scaling, cost: BatchCost) -> Outcome:
    return Simulation(calls, cost, scaling, start_s=30, notice_s=30).run()


ALONE = Scaling(1.0, 1, 1)


def test_one_server_one_at_a_time_is_the_textbooks_queue() -> None:
    """Batches that cost by the request alone gain nothing: an M/D/1 queue, whose mean wait is
    ρ / (2 (1 - ρ)) service times (Pollaczek-Khinchine), whatever the batches' sizes do to single
    waits. At ρ = 0.3 batches stay small and the formula holds within a few percent for the time
    until the work is done."""
    rng = np.random.default_rng(3)
    calls = [Call(t, 5.0) for t in np.cumsum(rng.exponential(1.0, 40_000))]
    outcome = simulate(calls, ALONE, BatchCost(0.0, 0.3, 0.0))
    in_order = 0.3 + 0.3 * 0.3 / (2 * 0.7)
    assert float(np.mean(outcome.latency_s)) == pytest.approx(in_order, rel=0.12)
    assert outcome.compute_s >= 0.3 * len(calls)


def test_everybody_is_served_and_pods_follow_the_load() -> None:
    """Three times what one pod can: pods come, nothing is lost, and they go again."""
    cost = BatchCost(0.5, 0.1, 0.02)
    one = 8 / cost.seconds(8, 10.0)  # calls a second
    calls = arrivals.steps([(600, 0.2 * one), (1800, 3 * one), (2400, 0.1 * one)], (10, 10), 1)
    outcome = simulate(calls, Scaling(1.0, 1, 8), cost)
    assert np.isfinite(outcome.latency_s).all() and (outcome.latency_s > 0).all()
    assert 4 <= outcome.most_replicas <= 8
    assert outcome.moments[-1].wanted < outcome.most_replicas
    alone = simulate(calls, ALONE, cost)
    assert outcome.p95_s < alone.p95_s / 10
    assert alone.pod_s == pytest.approx(alone.moments[-1].at_s, abs=30)


def test_calls_are_cut_as_whisper_gets_them() -> None:
    assert chunks(75.0) == [30.0, 30.0, 15.0]
    assert chunks(30.0) == [30.0]
    assert sum(chunks(123.4)) == pytest.approx(123.4)


def test_a_load_is_written_and_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    calls = arrivals.made_up_day(5.0, seed=1)
    assert sum(call.audio_s for call in calls) / 3600 == pytest.approx(5.0, rel=0.3)
    assert calls == arrivals.made_up_day(5.0, seed=1)
    arrivals.write(calls, tmp_path / "day.csv")
    again = arrivals.read(tmp_path / "day.csv")
    assert [c.at_s for c in again] == pytest.approx([c.at_s for c in calls], abs=1e-3)
    for text in ("at_s,audio_s\n", "at,audio\n1,2\n", "at_s,audio_s\nx,1\n", "at_s,audio_s\n1,0\n"):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(UsageError):
            arrivals.read(tmp_path / "bad.csv")
    with pytest.raises(UsageError):
        arrivals.read(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "arguments", [["--check"], ["--day", "1500", "--targets", "0.5", "1", "2"]], ids="".join
)
def test_the_paper_holds_what_the_command_prints(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["autoscale", *arguments]) == 0
    table = capsys.readouterr().out.strip()
    assert table in (PROJECT_ROOT / "docs/scaling.md").read_text()


def test_the_paper_holds_what_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity"]) == 0
    assert capsys.readouterr().out.strip() in (PROJECT_ROOT / "docs/scaling.md").read_text()


def test_what_is_needed_follows_from_the_figures() -> None:
    figures = json.loads(FIGURES.read_text())
    figures["models"]["whisper base"]["cpu_s_per_audio_s"] = 0.06
    figures["models"]["emotion"]["cpu_s_per_audio_s"] = 0.1
    figures["models"]["speaker_embedding"]["cpu_s_per_audio_s"] = 0.1
    figures["service"] |= {
        "emotion_windows_per_audio_s": 0.5,
        "speaker_windows_per_audio_s": 2.0,
        "redis_bytes_per_hour": 1e6,
    }
    found = capacity.needs(figures, 10, capacity.Plan(utilisation=0.5, gpu_audio_s_per_s=15.0))
    assert found["cores for whisper base"] == "1.2"
    assert found["cores for emotion"] == "2.0"
    assert found["cores for speaker_embedding"] == "6.0"
    assert found["Triton pods of 2 cores"] == "5"
    assert found["GPUs instead"] == "2"
    assert found["Redis, memory with 24 h kept"] == "240.0 MB"
    assert main(["capacity", "--utilisation", "0"]) == 2
    assert main(["capacity", "--whisper", "huge"]) == 2


def test_the_shipped_behaviour_is_the_one_that_the_paper_chose() -> None:
    paper = (PROJECT_ROOT / "docs/scaling.md").read_text()
    keda = manifests.read(COMPONENTS / "keda/triton.yaml")
    (policy,) = keda.down.policies
    chosen = f"after {keda.down.stabilisation_s} s, a pod every {policy.period_s} s"
    assert f"| **{chosen}** |" in paper and policy.value == 1
    assert f"**{keda.target:g} is what the overlay ships**" in paper


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day"
    arguments = ["autoscale", "--day", "10", "--targets", "1", "2", "--out", str(out)]
    assert main(arguments) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| target", "| 1", "| 2"]
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert main(["autoscale", "--load", str(out.with_suffix(".csv"))]) == 0
