"""Results as JSON, Markdown and a picture; the table of benchmarks/README.md comes from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from benchmarks.errors import UsageError
from benchmarks.load import perf_analyzer
from benchmarks.load.machine import is_quiet
from benchmarks.load.summary import ratios, spread
from benchmarks.load.targets import SERVICE

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
TABLE_BEGIN: Final = "<!-- results: written by python -m benchmarks table -->"
TABLE_END: Final = "<!-- end of results -->"

Results = dict[str, Any]
Run = dict[str, Any]


def write(results: Results, folder: Path) -> Path:
    """Writes NAME.json, NAME.md and NAME.png; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = results["scenario"]["name"]
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    draw(results).savefig(folder / f"{name}.png", dpi=120)
    path = folder / f"{name}.md"
    path.write_text(as_markdown(results))
    return path


def as_markdown(results: Results) -> str:
    """What was measured, with what, and how it compares."""
    scenario, machine = results["scenario"], results["machine"]
    low, high = scenario["lengths_s"]
    lines = [
        f"# {scenario['name']}",
        "",
        f"{scenario['what'].capitalize()}.",
        "",
        f"Clips of {low:g} to {high:g} s, {scenario['requests']} a run, "
        f"{scenario['rounds']} rounds; Whisper weights: {scenario['weights']}.",
        f"{machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB{_gpus(machine)}; {machine['system']}; "
        f"commit {machine['commit']}, {machine['measured_at']}.",
    ]
    if not all(is_quiet(run["busy_before"]) for run in results["runs"]):
        lines += ["", "**The machine was busy with other work: these figures prove nothing.**"]
    for load in loads(results):
        lines += ["", f"## {load}", "", *_comparison(results, load)]
    lines += ["", f"![{scenario['name']}]({scenario['name']}.png)", "", *_split(results)]
    return "\n".join(lines) + "\n"


def loads(results: Results) -> list[str]:
    """Names of the loads, in the order in which they were run."""
    return list(dict.fromkeys(run["load"] for run in results["runs"]))


def runs_of(results: Results, target: str, load: str) -> list[Run]:
    """One target's runs of one load, by round."""
    return [r for r in results["runs"] if r["target"] == target and r["load"] == load]


def names(results: Results) -> list[str]:
    """Everybody measured, the service first."""
    return list(dict.fromkeys(run["target"] for run in results["runs"]))


def draw(results: Results) -> Figure:
    """Throughput and latency: over the loads, or side by side where there is only one."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    if len(loads(results)) == 1:
        _bars(left, results, lambda run: run["audio_s_per_s"])
        _bars(right, results, lambda run: _latency(run, "p50"))
    else:
        _curves(left, results, lambda run: run["audio_s_per_s"])
        _curves(right, results, lambda run: _latency(run, "p99"))
    which = "p50" if len(loads(results)) == 1 else "p99"
    left.set_title("seconds of audio a second", fontsize=10)
    right.set_title(f"latency, {which}, s", fontsize=10)
    return figure


def table(folder: Path) -> str:
    """One line for each committed scenario and load: the service, and the best peer beside it."""
    lines = [
        "| scenario | load | seconds of audio a second | p50 | p99 | best peer | ratio | machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.json")):
        results = json.loads(path.read_text())
        lines += [_table_line(results, load) for load in loads(results)]
    return "\n".join(lines) if len(lines) > 2 else "No results yet."


def refresh_table(readme: Path, folder: Path) -> str:
    """The README's text with a fresh table between its marks.

    Raises:
        UsageError: the marks aren't there.
    """
    before, begin, rest = readme.read_text().partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not (begin and end):
        raise UsageError(f"{readme} has no place for the table: {TABLE_BEGIN} … {TABLE_END}")
    return f"{before}{TABLE_BEGIN}\n\n{table(folder)}\n\n{TABLE_END}{after}"


def _table_line(results: Results, load: str) -> str:
    ours = runs_of(results, SERVICE, load)
    best, ratio = "", ""
    others = [name for name in names(results) if name not in (SERVICE, perf_analyzer.NAME)]
    if others:
        best = max(others, key=lambda name: _median(results, name, load))
        ratio = _ratio(results, best, load)
    cells = [
        f"[{results['scenario']['name']}](results/{results['scenario']['name']}.md)",
        load,
        _spread(ours, lambda run: run["audio_s_per_s"], 1),
        _spread(ours, lambda run: _latency(run, "p50"), 3),
        _spread(ours, lambda run: _latency(run, "p99"), 3),
        best,
        ratio,
        f"{results['machine']['processor']}, {results['machine']['cores']} cores",
    ]
    return "| " + " | ".join(cells) + " |"


def _comparison(results: Results, load: str) -> list[str]:
    lines = [
        "| | audio s/s | service ÷ this | p50 s | p95 s | p99 s | max s | tokens per audio s "
        "| mean batch | CPU s per audio s | peak MiB | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names(results):
        runs = runs_of(results, name, load)
        cells = [
            name,
            _spread(runs, lambda run: run["audio_s_per_s"], 1),
            "" if name == SERVICE else _ratio(results, name, load),
            *(_spread(runs, _pick(p), 3) for p in ("p50", "p95", "p99", "max")),
            _spread(runs, lambda run: run.get("tokens_per_audio_s"), 2),
            _spread(runs, _mean_batch, 1),
            _spread(runs, _cpu_per_audio_s, 3),
            _spread(runs, _peak_mib, 0),
            "; ".join(sorted({f"{k} × {v}" for run in runs for k, v in run["errors"].items()})),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _split(results: Results) -> list[str]:
    """Where the service's time went, in the last round."""
    lines = ["## Where the time goes", "", "Means in milliseconds, last round.", ""]
    for load in loads(results):
        ours = runs_of(results, SERVICE, load)
        if not ours:
            continue
        run = ours[-1]
        stages = ", ".join(f"{name} {ms:g}" for name, ms in run["stages_ms"].items())
        lines.append(f"- {load}: {stages or 'no analysis'}")
        for model, found in (run["triton"] or {}).items():
            lines.append(
                f"  - Triton, {model}: queue {found['queue_ms']:g}, compute "
                f"{found['compute_ms']:g}, mean batch {found['mean_batch']:g}"
            )
        if run["health_s"]:
            lines.append(f"  - GET /health: p99 {1000 * run['health_s']['p99']:.0f}")
        lag = (run["service"] or {}).get("event_loop_lag_s")
        if lag:
            lines.append(
                f"  - event loop: 99% of looks at most {1000 * lag['p99']:g} late, 99.9% "
                f"{1000 * lag['p99.9']:g}, all {1000 * lag['max']:g}"
            )
        if run.get("cpu_s"):
            total = sum(run["cpu_s"].values())
            shares = ", ".join(
                f"{name} {100 * seconds / total:.1f}%" for name, seconds in _by_most(run["cpu_s"])
            )
            lines.append(f"  - processor time: {shares}")
    return lines


def _by_most(seconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(((n, s) for n, s in seconds.items() if s), key=lambda item: -item[1])


def _bars(axes: Any, results: Results, figure_of: Callable[[Run], float | None]) -> None:
    (load,) = loads(results)
    everybody = names(results)
    for y, name in enumerate(everybody):
        found = _values(runs_of(results, name, load), figure_of)
        if found:
            middle = spread(found)
            axes.barh(y, middle["median"], color="#1f3d66" if name == SERVICE else "#9fb4cc")
            axes.plot([middle["min"], middle["max"]], [y, y], color="black", linewidth=1)
    axes.set_yticks(range(len(everybody)), everybody, fontsize=8)
    axes.invert_yaxis()


def _curves(axes: Any, results: Results, figure_of: Callable[[Run], float | None]) -> None:
    every_load = loads(results)
    for name in names(results):
        points = []
        for x, load in enumerate(every_load):
            found = _values(runs_of(results, name, load), figure_of)
            if found:
                points.append((x, spread(found)))
        axes.plot([x for x, _ in points], [s["median"] for _, s in points], "o-", label=name)
        axes.fill_between(
            [x for x, _ in points],
            [s["min"] for _, s in points],
            [s["max"] for _, s in points],
            alpha=0.2,
        )
    axes.set_xticks(range(len(every_load)), every_load, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _pick(percentile: str) -> Callable[[Run], float | None]:
    return lambda run: _latency(run, percentile)


def _latency(run: Run, percentile: str) -> float | None:
    found = (run["latency_s"] or {}).get(percentile)
    return None if found is None else float(found)


def _mean_batch(run: Run) -> float | None:
    batches = [found["mean_batch"] for found in (run["triton"] or {}).values()]
    return max(batches, default=None)


def _cpu_per_audio_s(run: Run) -> float | None:
    if "cpu_s" not in run or not run["audio_s"]:
        return None
    return float(sum(run["cpu_s"].values()) / run["audio_s"])


def _peak_mib(run: Run) -> float | None:
    return run["peak_memory_bytes"] / 2**20 if "peak_memory_bytes" in run else None


def _values(runs: Sequence[Run], figure_of: Callable[[Run], float | None]) -> list[float]:
    return [value for value in map(figure_of, runs) if value is not None]


def _median(results: Results, name: str, load: str) -> float:
    return spread([run["audio_s_per_s"] for run in runs_of(results, name, load)])["median"]


def _ratio(results: Results, name: str, load: str) -> str:
    ours = [run["audio_s_per_s"] for run in runs_of(results, SERVICE, load)]
    theirs = [run["audio_s_per_s"] for run in runs_of(results, name, load)]
    if not ours or len(ours) != len(theirs) or not all(theirs):
        return ""
    found = ratios(ours, theirs)
    return f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"


def _spread(runs: Sequence[Run], figure_of: Callable[[Run], float | None], digits: int) -> str:
    values = _values(runs, figure_of)
    if not values:
        return ""
    found = spread(values)
    middle = f"{found['median']:.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({found['min']:.{digits}f}–{found['max']:.{digits}f})"


def _gpus(machine: dict[str, Any]) -> str:
    return f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
