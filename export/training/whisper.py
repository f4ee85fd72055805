"""Train the bundled tiny Whisper.

``python -m export.training.whisper --fsdd DIR --emodb DIR --out DIR``
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from export.training.corpora import (
    Recording,
    load_emodb,
    load_fsdd,
    split_speakers,
    synthesise_digits,
)
from export.training.whisper_data import FSDD_TEST_TAKES, WindowMaker, prepare_voices
from export.training.whisper_model import TrainableWhisper
from export.training.whisper_train import Budget, Trainer, load_state
from export.training.whisper_trial import SpokenString, spoken_strings
from export.training.whisper_vocabulary import compact_vocabulary

_SOURCES = """
Data (read from the folders given; nothing is downloaded):
  Free Spoken Digit Dataset, CC BY-SA 4.0, https://github.com/Jakobovski/free-spoken-digit-dataset
  Berlin Database of Emotional Speech (EMO-DB), Burkhardt et al., Interspeech 2005, free for
  research, http://emodb.bilderbar.info
  Synthetic voices by the espeak-ng program, https://github.com/espeak-ng/espeak-ng

A run saves OUT/state.pt every few minutes and goes on from there when started again. With --steps
it is repeatable on one machine; with --minutes its length depends on the machine's speed.
OUT/log.json holds the figures; python -m export.training.whisper_export writes the checkpoint, and
python -m export.training.whisper_evaluate measures it.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "options.json").write_text(json.dumps(vars(options), default=str, indent=1))
    began_s = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began_s:6.0f} s] {line}", flush=True)

    rng = np.random.default_rng(options.seed)
    vocabulary = compact_vocabulary()
    digits, digits_unheard = _split(load_fsdd(options.fsdd), options.hold_out)
    sentences, _ = _split(load_emodb(options.emodb), options.hold_out)
    training = [recording for recording in digits if recording.take >= FSDD_TEST_TAKES]
    synthetic = synthesise_digits(options.synthetic_voices, options.seed)
    say(f"{len(training)} digits, {len(synthetic)} synthetic, {len(sentences)} sentences")
    windows = WindowMaker(training, synthetic, sentences, vocabulary, rng)
    say("voices prepared")
    trials = {"known": _trial([r for r in digits if r.take < FSDD_TEST_TAKES])}
    if digits_unheard:
        trials["unheard"] = _trial(digits_unheard)
    model = TrainableWhisper(vocabulary)
    if options.warm_start:
        model.load_state_dict(load_state(options.warm_start)["average"])
    begin = options.begin if options.warm_start else 0.0
    budget = Budget(options.steps, options.minutes, begin)
    state_path = options.out / "state.pt"
    progress = Trainer(model, windows, vocabulary, trials, budget, state_path, say).run()
    say(f"done: {progress.step} steps in {progress.elapsed_s / 60:.0f} min, saved in {state_path}")


def _split(
    recordings: Sequence[Recording], held_out: Sequence[str]
) -> tuple[list[Recording], list[Recording]]:
    """Split off those held-out speakers whom this corpus has."""
    present = {recording.speaker for recording in recordings}
    return split_speakers(recordings, [speaker for speaker in held_out if speaker in present])


def _trial(recordings: Sequence[Recording]) -> list[SpokenString]:
    """24 strings of 1 to 9 digits by unchanged voices at 30 dB SNR."""
    voices = prepare_voices(recordings, 1, np.random.default_rng(0))
    return spoken_strings(voices, [1 + i % 9 for i in range(24)], 30.0, seed=1, chunk_s=11.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.training.whisper",
        description="Train the tiny Whisper that is bundled for demonstration: English digits.",
        epilog=_SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAVs")
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAVs")
    parser.add_argument("--out", type=Path, required=True, help="folder for state and log")
    parser.add_argument(
        "--hold-out", nargs="*", default=[], metavar="SPEAKER", help="speakers never trained on"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=45.0, help="how long (default 45)")
    length.add_argument("--steps", type=int, help="how many steps, instead of --minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--synthetic-voices", type=int, default=160, help="espeak-ng voices")
    parser.add_argument(
        "--warm-start", type=Path, metavar="STATE", help="start from another run's averaged weights"
    )
    parser.add_argument(
        "--begin", type=float, default=0.7, help="where on the schedule a warm start begins (0..1)"
    )
    return parser


if __name__ == "__main__":
    main()
