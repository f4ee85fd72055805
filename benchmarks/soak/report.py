"""A soak as JSON, Markdown and a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from benchmarks.soak.ledger import GRACE_S

COLOURS: Final = {
    "worker": "#1f77b4",
    "stub": "#9467bd",
    "triton": "#d62728",
    "postgres": "#2ca02c",
    "redis": "#ff7f0e",
}

Results = dict[str, Any]


def write(results: Results, folder: Path) -> Path:
    """Writes soak.json, soak.md and soak.png; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    draw(results).savefig(folder / "soak.png", dpi=120)
    path = folder / "soak.md"
    path.write_text(as_markdown(results))
    return path


def as_markdown(results: Results) -> str:
    """The verdict, what it rests on, and every fault."""
    machine, counts = results["machine"], results["counts"]
    verdict = "Passed" if results["passed"] else f"{len(results['faults'])} faults"
    if results["interrupted"]:
        verdict += ", interrupted"
    lines = [
        f"# Soak: {verdict}",
        "",
        f"{results['lasted_s'] / 60:.1f} of {results['wanted_s'] / 60:g} minutes, "
        f"{results['per_minute']:g} recordings a minute, a kill about every "
        f"{results['kill_every_s']:g} s, seed {results['seed']}; {results['databases']}.",
        f"{machine['processor']}, {machine['cores']} cores, commit {machine['commit']}, "
        f"{machine['measured_at']}. The service used {results['cpu_cores']:.2f} cores on average; "
        f"the machine's load average was {results['load_average']:.1f} on average, so others "
        + ("used it too." if results["load_average"] > 1.0 else "hardly used it.")
        + " Latencies here are no benchmark.",
        "",
        "| way | accepted | answered | p50 s | p95 s | max s |",
        "|---|---|---|---|---|---|",
    ]
    for route, found in counts["routes"].items():
        waits = " | ".join(str(found.get(key, "")) for key in ("p50_s", "p95_s", "max_s"))
        lines.append(f"| {route} | {found['accepted']} | {found['answered']} | {waits} |")
    lines += [
        "",
        f"{results['stored']} answers compared with the store afterwards. Emotions answered by "
        f"version: {_listed(counts['by_emotion_version'])}. Rollouts: "
        f"{_listed(counts['rollouts'])}. Streams resumed by callers that lost their connection: "
        f"{counts['streams_resumed']}.",
        "",
        f"Asked again during an outage (up to {GRACE_S:.0f} s after it): "
        f"{_listed(counts['asked_again_explained'])}; of all: {_listed(counts['asked_again'])}.",
        "",
        "| killed | at s | back after s |",
        "|---|---|---|",
        *(
            f"| {o['victim']} | {o['began_s']:.0f} | "
            + ("never" if o["over_s"] is None else f"{o['over_s'] - o['began_s']:.1f}")
            + " |"
            for o in results["outages"]
        ),
        "",
        "| grows | level | per hour | at most | |",
        "|---|---|---|---|---|",
        *(_growth(growth) for growth in results["growth"]),
        "",
        "![soak](soak.png)",
    ]
    if results["faults"]:
        lines += ["", "## Faults", ""]
        lines += [f"- {f['kind']} at {f['at_s']:.0f} s: {f['what']}" for f in results["faults"]]
    return "\n".join(lines) + "\n"


def draw(results: Results) -> Figure:
    """Memory by role, shared memory and latencies over the run, with the kills."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    memory, shared, waits = figure.subplots(3, 1, sharex=True)
    series = results["series"]
    for number, (role, lives) in enumerate(sorted(_lives(series).items())):
        for life, points in enumerate(lives):
            label = role if life == 0 else None
            memory.plot(*zip(*points, strict=True), color=f"C{number}", linewidth=1, label=label)
    memory.set_title("memory of their own, each process, MiB", fontsize=10)
    memory.legend(fontsize=8, loc="upper right")
    minutes = [sample["at_s"] / 60 for sample in series]
    shared.plot(minutes, [sample["regions_mib"] for sample in series], color="black")
    shared.set_title("shared memory of Triton's models, MiB", fontsize=10)
    for route in ("analysis", "stream", "job"):
        answered = [a for a in results["answered"] if a["route"] == route]
        waits.plot(
            [a["at_s"] / 60 for a in answered],
            [a["latency_s"] for a in answered],
            ".",
            label=route,
        )
    waits.set_yscale("log")
    waits.set_title("from asking to the answer, tries included, s", fontsize=10)
    waits.set_xlabel("minutes")
    waits.legend(fontsize=8, loc="upper right")
    for axes in (memory, shared, waits):
        axes.grid(alpha=0.3)
        for outage in results["outages"]:
            axes.axvline(outage["began_s"] / 60, color=COLOURS[outage["kind"]], alpha=0.5)
    memory.set_ylim(bottom=0)
    shared.set_ylim(bottom=0)
    return figure


def _lives(series: list[dict[str, Any]]) -> dict[str, list[list[tuple[float, float]]]]:
    """By role, the minutes and MiB of each of its processes."""
    lives: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for sample in series:
        for process in sample["processes"]:
            point = (sample["at_s"] / 60, process["own_mib"])
            lives[process["role"]][process["pid"]].append(point)
    return {role: list(of_role.values()) for role, of_role in lives.items()}


def _growth(growth: dict[str, Any]) -> str:
    verdict = "flat" if growth["is_flat"] else "grows"
    if not growth["is_judged"]:
        verdict = f"not judged: seen for {growth['observed_s']:.0f} s"
    unit = growth["unit"]
    return (
        f"| {growth['what']} | {growth['level']:.1f} {unit} | {growth['per_hour']:+.2f} {unit} | "
        f"{growth['limit_per_hour']:.1f} | {verdict} |"
    )


def _listed(found: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "none"
