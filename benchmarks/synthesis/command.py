"""Builds conversations with exact truth from takes of single speakers.

Each conversation comes as a 16 kHz WAV, an RTTM, its words with times (where the takes are single
words), its emotions (where the corpus names them), and a truth.json with talk times and overlap;
manifest.jsonl lists them for `evaluate`.

  python -m benchmarks conversations --data FSDD --out talks --count 20 --overlap 0.1
  python -m benchmarks conversations --data EMODB --out noisy --speakers 2-4 --seed 7 \\
      --snr none 20 10 --reverb none 0.3 0.6 --voices 03 14 08 11
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.errors import UsageError
from benchmarks.synthesis.conversations import Recipe, converse, write
from benchmarks.synthesis.takes import read_takes

MAX_OVERLAP = 0.25
"""With two voices at most at a time, more can't be planned reliably."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    where = command.add_argument_group("takes and place")
    where.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="takes: a folder named as FSDD's or EMO-DB's; may be given again",
    )
    where.add_argument("--out", type=Path, required=True, metavar="DIR", help="made when absent")
    where.add_argument(
        "--voices",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these speakers, e.g. those held out of training: theo 14",
    )
    where.add_argument(
        "--takes", type=_span, metavar="LOW-HIGH", help="only these takes of a word, e.g. 0-4"
    )
    what = command.add_argument_group("what they are like")
    what.add_argument("--count", type=int, default=20, help="conversations (default %(default)s)")
    what.add_argument(
        "--speakers",
        type=_span,
        default=(2, 4),
        metavar="LOW-HIGH",
        help="the conversations go through this range in turn (default 2-4)",
    )
    what.add_argument(
        "--duration",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds at least (default %(default)s)",
    )
    what.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        metavar="SHARE",
        help=f"share of the speech time under two voices, 0 to {MAX_OVERLAP} (default 0)",
    )
    what.add_argument(
        "--snr",
        type=_number_or_none,
        nargs="+",
        default=[None],
        metavar="DB",
        help="pink noise this far below speech; several are drawn from; none = clean",
    )
    what.add_argument(
        "--reverb",
        type=_number_or_none,
        nargs="+",
        default=[None],
        metavar="S",
        help="reverberation times (T60), likewise; none = dry",
    )
    what.add_argument("--seed", type=int, default=0, help="same seed, same samples (default 0)")


def run(parsed: argparse.Namespace) -> int:
    """Runs the command; returns the exit status.

    Raises:
        UsageError: the arguments contradict each other or the folders.
    """
    if parsed.speakers[0] < 2:
        raise UsageError("a conversation needs two speakers at least")
    if not 0 <= parsed.overlap <= MAX_OVERLAP:
        raise UsageError(f"--overlap must lie between 0 and {MAX_OVERLAP}")
    recipe = Recipe(
        count=parsed.count,
        speakers=parsed.speakers,
        duration_s=parsed.duration,
        snr_db=tuple(parsed.snr),
        t60_s=tuple(parsed.reverb),
        overlap=parsed.overlap,
        seed=parsed.seed,
    )
    numbers = range(parsed.takes[0], parsed.takes[1] + 1) if parsed.takes else None
    takes = read_takes(parsed.data, parsed.voices, numbers)
    print(f"{sum(map(len, takes.values()))} takes of {', '.join(sorted(takes))}")
    print(write(converse(takes, recipe), recipe, parsed.out))
    return 0


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    span = int(low), int(high or low)
    if span[0] > span[1]:
        raise argparse.ArgumentTypeError(f"{text} runs backwards")
    return span


def _number_or_none(text: str) -> float | None:
    return None if text == "none" else float(text)
