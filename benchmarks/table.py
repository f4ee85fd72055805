"""Writes the table of benchmarks/README.md from the committed results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from benchmarks.load.report import RESULTS, refresh_table

README: Final = Path(__file__).with_name("README.md")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    command.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    README.write_text(refresh_table(README, parsed.results))
    return 0
