"""Train the bundled speaker-embedding checkpoint: a tiny ECAPA-TDNN in SpeechBrain's format.

    python -m export.training.speaker --fsdd DIR --emodb DIR --out DIR --steps N

Data (see `export.training.corpora` for sources and licences): the Free Spoken Digit Dataset and the
Berlin Database of Emotional Speech, plus disguised copies of their speakers and espeak-ng voices as
further classes. A teacher says besides what it hears in them (`export.training.speaker_teacher`);
its weights come with ``pip install --no-deps resemblyzer==0.1.4``. ``--voices`` names folders of
more people to learn from, each of whom has a folder of WAV files there; ``--clips`` is a folder of
WAV files of whomever, one voice in each, in which the teacher alone says what there is to hear.

With ``--hold-out-fsdd theo --hold-out-emodb 08,11`` those speakers stay out of training, and the
report judges the network on them alone; without, on nobody.

The diarization error in the report is that of the diarizer named by ``--diarizer``; by default the
service's own, imported by name where it is installed.

``--steps`` with one seed gives the same weights again on the same machine and versions;
``--minutes`` doesn't.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from export.training.corpora import load_emodb, load_fsdd, split_speakers
from export.training.speaker_checkpoint import save
from export.training.speaker_evaluation import Diarizer, evaluate
from export.training.speaker_network import TrainingPlan, train
from export.training.speaker_teacher import Teacher, pretrained_teacher
from export.training.speaker_voices import (
    Takes,
    disguised_voices,
    folder_clips,
    folder_voices,
    real_voices,
    synthetic_voices,
)

DEFAULT_DIARIZER = "api.services.diarization:diarize"
_TAKES_PER_DISGUISE = 100
_TAKES_PER_VOICE = 800
_SYNTHETIC_VOICES = 100


def main(arguments: Sequence[str] | None = None, teacher: Teacher | None = None) -> None:
    """Train, write the SpeechBrain folder, and report on the held-out speakers.

    Args:
        arguments: those of the command line when None.
        teacher: the installed package's when None.
    """
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    plan = TrainingPlan(seed=options.seed, steps=options.steps, minutes=options.minutes)
    seen, unseen = _load(options)
    rng = np.random.default_rng(options.seed)
    for folder in options.voices:
        seen |= folder_voices(folder, _TAKES_PER_VOICE, rng)
    disguised = disguised_voices(seen, rng, _TAKES_PER_DISGUISE)
    synthetic = synthetic_voices(options.synthetic_voices, options.seed)
    clips = folder_clips(options.clips) if options.clips else []
    print(
        f"{len(seen)} speakers, {len(disguised)} disguises of them, "
        f"{len(synthetic)} synthetic voices, {len(clips)} clips; "
        f"held out: {', '.join(unseen) or 'nobody'}",
        flush=True,
    )
    network = train(seen, disguised, synthetic, clips, plan, teacher or pretrained_teacher())
    save(network, options.out)
    if not unseen:
        print(f"wrote {options.out}; all voices were trained on, so there is nothing to judge")
        return
    measured = evaluate(
        network.embed,
        _diarizer(options.diarizer),
        unseen,
        seen,
        seed=options.seed,
        talks_each=options.talks,
        windows_each=options.windows,
    )
    report = {"held_out": list(unseen), "seed": options.seed, **measured}
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(describe(report))


def describe(report: dict[str, Any]) -> str:
    """The report as text, one line a measurement."""
    lines = [f"voices never heard in training: {', '.join(report['held_out'])}"]
    for name, value in report.items():
        if name.startswith("eer_"):
            errors = ", ".join(f"{kind} {error:.1%}" for kind, error in value.items())
            lines.append(f"equal error rate, windows of {name.removeprefix('eer_')}: {errors}")
        elif name.startswith("talks_of_"):
            unknown, known = value["count_unknown"], value["count_known"]
            lines.append(
                f"{unknown['conversations']} conversations, speakers "
                f"{name.removeprefix('talks_of_')}: DER {unknown['der']:.1%} with the count "
                f"unknown (right in {unknown['count_accuracy']:.0%}, mean "
                f"{unknown['mean_count']:.1f}), {known['der']:.1%} with it known"
            )
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.training.speaker",
        description="Train the bundled speaker-embedding checkpoint.",
    )
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAV files")
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAV files")
    parser.add_argument(
        "--voices", type=Path, nargs="+", default=[], metavar="DIR", help="more people, see above"
    )
    parser.add_argument("--clips", type=Path, metavar="DIR", help="clips of whomever, see above")
    parser.add_argument("--out", type=Path, required=True, help="SpeechBrain folder to write")
    parser.add_argument("--hold-out-fsdd", type=_names, default=[], metavar="NAME,…")
    parser.add_argument("--hold-out-emodb", type=_names, default=[], metavar="NUMBER,…")
    bound = parser.add_mutually_exclusive_group(required=True)
    bound.add_argument("--steps", type=int, help="batches to train on")
    bound.add_argument("--minutes", type=float, help="wall-clock time to train for")
    parser.add_argument("--synthetic-voices", type=int, default=_SYNTHETIC_VOICES)
    parser.add_argument("--talks", type=int, default=24, help="test conversations of each size")
    parser.add_argument("--windows", type=int, default=60, help="test windows of each voice")
    parser.add_argument("--diarizer", default=DEFAULT_DIARIZER, metavar="MODULE:FUNCTION")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _load(options: argparse.Namespace) -> tuple[dict[str, Takes], dict[str, Takes]]:
    digits, new_digits = split_speakers(load_fsdd(options.fsdd), options.hold_out_fsdd)
    sentences, new_sentences = split_speakers(load_emodb(options.emodb), options.hold_out_emodb)
    return real_voices([*digits, *sentences]), real_voices([*new_digits, *new_sentences])


def _diarizer(name: str) -> Diarizer:
    module, _, function = name.partition(":")
    return cast(Diarizer, getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    main()
