"""Train the detector of overlapping speech that the API ships.

    python -m export.training.overlap --fsdd DIR --emodb DIR --out overlap_16k.onnx --steps N

Data (see `export.training.corpora` for sources and licences): mixtures of voices of the Free Spoken
Digit Dataset and the Berlin Database of Emotional Speech, of disguised copies of them, and of
espeak-ng voices. With ``--hold-out-fsdd nicolas --hold-out-emodb 03,14`` those speakers stay out of
training, and a report beside the graph judges the network on them alone; without, on nobody.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.training.corpora import load_emodb, load_fsdd, split_speakers
from export.training.overlap_evaluation import evaluate
from export.training.overlap_network import TrainingPlan, train, write_onnx
from export.training.speaker_voices import (
    Takes,
    disguised_voices,
    real_voices,
    synthetic_voices,
)

_TAKES_PER_DISGUISE = 60
_SYNTHETIC_VOICES = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the graph, and report on the held-out speakers."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    seen, unseen = _load(options)
    rng = np.random.default_rng(options.seed)
    people = {**seen, **disguised_voices(seen, rng, _TAKES_PER_DISGUISE)}
    synthetic = synthetic_voices(options.synthetic_voices, options.seed)
    network = train(people, synthetic, TrainingPlan(options.steps, options.seed))
    write_onnx(network, options.out)
    if not unseen:
        print(f"wrote {options.out}; all voices were trained on, so there is nothing to judge")
        return
    scores = evaluate(network, unseen, seed=options.seed, clips_each=options.clips)
    report = {"held_out": list(unseen), "seed": options.seed, "conditions": scores}
    path = options.out.with_suffix(".json")
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(describe(report))


def describe(report: dict[str, Any]) -> str:
    """The report as text, one line a condition and threshold."""
    lines = [f"voices never heard in training: {', '.join(report['held_out'])}"]
    for condition, scores in report["conditions"].items():
        lines += [
            f"{condition}, from {s['threshold']:.1f}: precision {s['precision']:.1%}, "
            f"recall {s['recall']:.1%}, F1 {s['f1']:.1%}"
            for s in scores
        ]
    return "\n".join(lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAV files")
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAV files")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--hold-out-fsdd", type=_names, default=[], metavar="NAME,…")
    parser.add_argument("--hold-out-emodb", type=_names, default=[], metavar="NUMBER,…")
    parser.add_argument("--steps", type=int, required=True, help="batches to train on")
    parser.add_argument("--synthetic-voices", type=int, default=_SYNTHETIC_VOICES)
    parser.add_argument("--clips", type=int, default=300, help="test stretches a condition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _load(options: argparse.Namespace) -> tuple[dict[str, Takes], dict[str, Takes]]:
    digits, new_digits = split_speakers(load_fsdd(options.fsdd), options.hold_out_fsdd)
    sentences, new_sentences = split_speakers(load_emodb(options.emodb), options.hold_out_emodb)
    return real_voices([*digits, *sentences]), real_voices([*new_digits, *new_sentences])


if __name__ == "__main__":
    main()
