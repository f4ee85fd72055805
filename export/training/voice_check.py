"""Train the network that tells voices from notes, which the API's voice activity detector asks.

    python -m export.training.voice_check --fsdd DIR --emodb DIR --out FILE.onnx --steps N

Data (see `export.training.corpora` for sources and licences): the Free Spoken Digit Dataset, the
Berlin Database of Emotional Speech, disguised copies of their speakers and espeak-ng voices; and
tunes, drums, hum and noise that are computed (`export.training.tunes`). With ``--hold-out-fsdd
nicolas --hold-out-emodb 03,14`` those speakers stay out of training, and the report judges the
network on them; without, on nobody.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from export.training.corpora import load_emodb, load_fsdd, split_speakers
from export.training.speaker_voices import (
    Takes,
    disguised_voices,
    real_voices,
    synthetic_voices,
)
from export.training.voice_check_network import (
    Sound,
    TrainingPlan,
    VoiceCheck,
    speech,
    train,
    wordless,
    write_onnx,
)

_TAKES_PER_DISGUISE = 60
_SYNTHETIC_VOICES = 60
_REPORT_SEED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the graph, and report on the held-out speakers."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    digits, new_digits = split_speakers(load_fsdd(options.fsdd), options.hold_out_fsdd)
    sentences, new_sentences = split_speakers(load_emodb(options.emodb), options.hold_out_emodb)
    seen, unseen = real_voices([*digits, *sentences]), real_voices([*new_digits, *new_sentences])
    rng = np.random.default_rng(options.seed)
    people = {**seen, **disguised_voices(seen, rng, _TAKES_PER_DISGUISE)}
    synthetic = synthetic_voices(options.synthetic_voices, options.seed)
    network = train(people, synthetic, TrainingPlan(options.steps, options.seed))
    write_onnx(network, options.out)
    print(report(network, unseen, options.sounds))


def report(network: VoiceCheck, unseen: Mapping[str, Takes], sounds: int) -> str:
    """How many of so many new sounds are taken for a voice, and how many voices for none."""
    rng = np.random.default_rng(_REPORT_SEED)
    taken = [_mean_score(network, wordless(rng)) > 0 for _ in range(sounds)]
    lines = [f"{np.mean(taken):.1%} of {sounds} wordless sounds are taken for a voice"]
    if unseen:
        heard = [speech(unseen, rng) for _ in range(sounds)]
        lost = [_mean_score(network, sound) <= 0 for sound in heard if sound.asked.any()]
        lines.append(f"{np.mean(lost):.1%} of the speech of {', '.join(unseen)} is taken for none")
    return "\n".join(lines)


def _mean_score(network: VoiceCheck, sound: Sound) -> float:
    return float(network.scores(sound.samples[None])[0][sound.asked].mean())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fsdd", type=Path, required=True, help="folder of FSDD's WAV files")
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAV files")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--hold-out-fsdd", type=_names, default=[], metavar="NAME,…")
    parser.add_argument("--hold-out-emodb", type=_names, default=[], metavar="NUMBER,…")
    parser.add_argument("--steps", type=int, required=True, help="batches to train on")
    parser.add_argument("--synthetic-voices", type=int, default=_SYNTHETIC_VOICES)
    parser.add_argument("--sounds", type=int, default=400, help="test sounds of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()
