"""Measures how fast the service answers, alone or in turn with others.

Without --url the service of this checkout is started for every turn, with its embedded Triton, and
stopped again: nobody runs beside the one that is measured. Peers need an environment of their own
(benchmarks/requirements.txt says how to make it) and weights (`python -m benchmarks prepare`).

  python -m benchmarks run smoke
  python -m benchmarks run words-16 --work work --peers-python .venv-peers/bin/python
  python -m benchmarks run gpu --url https://speech.example --api-key KEY \\
      --triton-metrics http://triton.example:8002/metrics

Scenarios:
%(scenarios)s
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.errors import UsageError
from benchmarks.load import machine, report, runner
from benchmarks.load.scenarios import SCENARIOS, Closed, Load, Open, Scenario
from benchmarks.peers import PEERS
from benchmarks.prepare import MARK

__doc__ = __doc__ % {"scenarios": "\n".join(f"  {s.name:<16}{s.what}" for s in SCENARIOS.values())}

NO_WEIGHTS: Final = ("bundled", "as deployed")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = command.add_argument
    add("scenario", choices=SCENARIOS, metavar="SCENARIO")
    add("--url", help="a service that runs already; default: start this checkout's for each turn")
    add(
        "--api-key",
        default=os.environ.get("VOICE_ANALYTICS_API_KEY"),
        metavar="KEY",
        help="X-API-Key; default: $VOICE_ANALYTICS_API_KEY",
    )
    add("--triton-metrics", metavar="URL", help="with --url: Triton's exposition")
    add("--triton-url", metavar="URL", help="with --url: Triton's HTTP endpoint, for leaf models")
    add(
        "--start",
        default=str(Path(sys.executable).with_name("start")),
        metavar="COMMAND",
        help="starts the service (default: `start` of this environment)",
    )
    add(
        "--work",
        type=Path,
        default=Path("work"),
        metavar="DIR",
        help="where `prepare` put the weights (default ./work)",
    )
    add(
        "--peers-python",
        type=Path,
        metavar="PYTHON",
        help="the peers' environment; without it only the service is measured",
    )
    add(
        "--peers",
        nargs="*",
        metavar="NAME",
        help=f"only these of the scenario's: {', '.join(PEERS)}",
    )
    add(
        "--cores",
        type=int,
        default=os.cpu_count(),
        help="threads that peers may use (default: all)",
    )
    add(
        "--perf-analyzer",
        type=Path,
        metavar="PROGRAM",
        help="NVIDIA's, beside our own load on leaf models; the README says where to get it",
    )
    add("--rounds", type=int, help="instead of the scenario's")
    add("--requests", type=int, help="in each run, instead of the scenario's")
    add(
        "--loads",
        nargs="+",
        type=_load,
        metavar="LOAD",
        help="instead of the scenario's: 16 (clients) or 2.5/s (constant rate)",
    )
    add(
        "--out",
        type=Path,
        default=Path("benchmark-results"),
        metavar="DIR",
        help="JSON, Markdown and PNG (default ./benchmark-results)",
    )


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: arguments that don't fit, or weights that aren't there.
        BenchmarkError: somebody doesn't start or fails while warming up.
    """
    scenario = _scenario(parsed)
    # the end of a `with`, not of the program: whoever was started is stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    contenders = [_service(parsed, scenario), *_peers(parsed, scenario)]
    results: dict[str, Any] = {
        "scenario": asdict(scenario) | {"loads": [load.name for load in scenario.loads]},
        "machine": machine.facts(),
        "peer_packages": (
            machine.versions_of(parsed.peers_python) if len(contenders) > 1 else None
        ),
        "runs": runner.run_scenario(scenario, contenders, parsed.perf_analyzer),
    }
    path = report.write(results, parsed.out)
    print(report.as_markdown(results), end="")
    print(path, file=sys.stderr)
    return 0


def _scenario(parsed: argparse.Namespace) -> Scenario:
    changed = {
        name: value
        for name in ("rounds", "requests", "loads")
        if (value := getattr(parsed, name)) is not None
    }
    if any(isinstance(value, int) and value < 1 for value in changed.values()):
        raise UsageError("--rounds and --requests must be 1 at least")
    scenario = SCENARIOS[parsed.scenario]
    if "loads" in changed:
        changed["loads"] = tuple(changed["loads"])
    return replace(scenario, **changed)


def _service(parsed: argparse.Namespace, scenario: Scenario) -> runner.Contender:
    if parsed.url is not None:
        return runner.remote_service(
            parsed.url.rstrip("/"), parsed.api_key, parsed.triton_metrics, parsed.triton_url
        )
    if scenario.weights == "as deployed":
        raise UsageError(f"{scenario.name} measures a service that runs: say where with --url")
    repository = None
    if scenario.weights not in NO_WEIGHTS:
        repository = _weights(parsed, scenario) / "repository"
    return runner.local_service(parsed.start, repository, scenario)


def _peers(parsed: argparse.Namespace, scenario: Scenario) -> Sequence[runner.Contender]:
    if parsed.peers_python is None:
        return []
    names = scenario.peers if parsed.peers is None else tuple(parsed.peers)
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        raise UsageError(f"there is no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    weights = _weights(parsed, scenario)
    return [runner.local_peer(parsed.peers_python, name, weights, parsed.cores) for name in names]


def _weights(parsed: argparse.Namespace, scenario: Scenario) -> Path:
    folder: Path = parsed.work / scenario.weights
    if not (folder / MARK).exists():
        raise UsageError(
            f"there are no weights in {folder}: "
            f"python -m benchmarks prepare {scenario.weights} --out {parsed.work}"
        )
    return folder.resolve()


def _load(text: str) -> Load:
    if text.endswith("/s"):
        return Open(float(text.removesuffix("/s")))
    return Closed(int(text))
