"""`python -m benchmarks`: its commands; each one's arguments are in its own package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import benchmarks.evaluation.command
import benchmarks.lengths
import benchmarks.load.command
import benchmarks.prepare
import benchmarks.scaling.autoscale
import benchmarks.scaling.capacity
import benchmarks.scaling.figures
import benchmarks.scaling.record
import benchmarks.soak.command
import benchmarks.synthesis.command
import benchmarks.table
from benchmarks.errors import BenchmarkError, UsageError

DESCRIPTION = "Measures a running voice-analytics service: how right, and how fast."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed with a message, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, what, module in (
        ("evaluate", "score the answers on labelled recordings", benchmarks.evaluation.command),
        ("conversations", "build conversations with exact truth", benchmarks.synthesis.command),
        ("run", "measure speed under load", benchmarks.load.command),
        ("lengths", "what a second costs in long recordings", benchmarks.lengths),
        ("autoscale", "simulate the autoscaler on a load", benchmarks.scaling.autoscale),
        ("capacity", "what so many hours of audio an hour need", benchmarks.scaling.capacity),
        ("figures", "measure what an hour of audio costs", benchmarks.scaling.figures),
        ("record", "play calls and record the load", benchmarks.scaling.record),
        ("soak", "an hour of load while processes are killed", benchmarks.soak.command),
        ("prepare", "make Whisper weights for the speed runs", benchmarks.prepare),
        ("table", "write the README's table from the committed results", benchmarks.table),
    ):
        command = commands.add_parser(
            name,
            help=what,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
