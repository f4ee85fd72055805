"""Train the tiny wav2vec2 emotion classifier that is bundled for demonstration.

    python -m export.training.emotion --emodb DIR --fsdd DIR --out DIR --folds 4

With ``--folds`` the actors are split into groups, and each group is judged by a network that never
heard it, before the network that is kept trains on all of them. The temperature that fits those
groups goes into its config.json as ``logit_temperature``, from where the exporter takes it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

from export.training.corpora import (
    SAMPLE_RATE_HZ,
    Recording,
    load_emodb,
    load_fsdd,
    split_speakers,
)
from export.training.emotion_calibration import draw
from export.training.emotion_data import LABELS, WINDOW, spoken_strings
from export.training.emotion_loop import train_classifier
from export.training.emotion_recipe import Recipe
from export.training.emotion_report import (
    Judgement,
    pooled,
    report_folds,
    report_scores,
    text_of,
)
from export.training.emotion_scoring import (
    fit_temperature,
    predict,
    truths_of,
    window_of,
)

_SOURCES = """\
data:
  EMO-DB  Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005),
          http://emodb.bilderbar.info, freely available for research.
          Files are named {speaker:2}{sentence:3}{emotion:1}{take:1}.wav.
  FSDD    Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset,
          CC BY-SA 4.0. Files are named {digit}_{speaker}_{take}.wav.

writes to --out: a Hugging Face folder (config.json, model.safetensors, preprocessor_config.json),
report.json, report.txt and, with --folds, reliability.png.
"""

_NUM_JUDGED_STRINGS = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the recipe from the command line."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    emotional = load_emodb(options.emodb)
    digits = load_fsdd(options.fsdd) if options.fsdd else []
    recipe = Recipe(seed=options.seed, digit_strings=options.digit_strings)
    recipe = recipe.scaled_to(options.steps)
    report: dict[str, Any] = {"recipe": dataclasses.asdict(recipe)}
    heard, held_out = split_speakers(emotional, options.hold_out)
    temperature = 1.0
    if options.folds:
        judgements = cross_validate(heard, digits, options.folds, recipe)
        temperature = fit_temperature(*pooled(judgements))
        report["folds"] = report_folds(judgements)
    print(f"training on {', '.join(_speakers(heard))}", flush=True)
    model = train_classifier(heard, digits, recipe, _print_progress)
    model.config.logit_temperature = temperature
    if held_out:
        logits, truths = predict(model, [window_of(r) for r in held_out]), truths_of(held_out)
        report["held_out"] = report_scores(_speakers(held_out), logits, truths)
    report["trained_on"] = _speakers(heard)
    report["temperature"] = temperature
    report["num_parameters"] = model.num_parameters()
    save(model, report, options.out)
    print(text_of(report))


def cross_validate(
    emotional: Sequence[Recording], digits: Sequence[Recording], num_folds: int, recipe: Recipe
) -> list[Judgement]:
    """Judge each group of actors, and a speaker of digits, by a network trained on the others.

    Raises:
        ValueError: fewer actors than folds.
    """
    actors, digit_speakers = _speakers(emotional), _speakers(digits)
    if len(actors) < num_folds:
        raise ValueError(f"{num_folds} folds need as many actors, there are {len(actors)}")
    judgements = []
    for index, group in enumerate(np.array_split(np.array(actors), num_folds)):
        print(f"fold {index + 1} of {num_folds}: without {', '.join(group)}", flush=True)
        heard, unheard = split_speakers(emotional, list(group))
        voice = digit_speakers[index % len(digit_speakers)] if digits else None
        heard_digits, unheard_digits = split_speakers(digits, [voice] if voice else [])
        model = train_classifier(heard, heard_digits, recipe, _print_progress)
        judgements.append(
            Judgement(
                speakers=tuple(group.tolist()),
                logits=predict(model, [window_of(recording) for recording in unheard]),
                truths=truths_of(unheard),
                digit_labels=_labels_of_digits(model, unheard_digits) if unheard_digits else {},
            )
        )
        scores = report_scores(group.tolist(), judgements[-1].logits, judgements[-1].truths)
        print(f"  7 labels {scores['uar_7']:.3f}, 4 labels {scores['uar_4']:.3f}", flush=True)
    return judgements


def save(model: Wav2Vec2ForSequenceClassification, report: dict[str, Any], folder: Path) -> None:
    """Write the Hugging Face folder and the report."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=SAMPLE_RATE_HZ,
        padding_value=0.0,
        do_normalize=True,
        return_attention_mask=False,
    ).save_pretrained(folder)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.txt").write_text(text_of(report) + "\n")
    if "folds" in report:
        folds = report["folds"]
        draw(folds["reliability_before"], folds["reliability_after"], folder / "reliability.png")


def _labels_of_digits(
    model: Wav2Vec2ForSequenceClassification, digits: Sequence[Recording]
) -> dict[str, float]:
    strings = spoken_strings(digits, _NUM_JUDGED_STRINGS, np.random.default_rng(0))
    answers = predict(model, [np.resize(string.audio, WINDOW) for string in strings]).argmax(1)
    shares = np.bincount(answers, minlength=len(LABELS)) / len(answers)
    return {label: float(share) for label, share in zip(LABELS, shares, strict=True)}


def _speakers(recordings: Sequence[Recording]) -> list[str]:
    return sorted({recording.speaker for recording in recordings})


def _print_progress(line: str) -> None:
    print(f"  {line}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.training.emotion",
        description="Train the tiny wav2vec2 emotion classifier that is bundled for demonstration.",
        epilog=_SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--emodb", type=Path, required=True, help="folder of EMO-DB's WAVs")
    parser.add_argument("--fsdd", type=Path, help="folder of FSDD's WAVs: more voices")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument(
        "--hold-out", nargs="*", default=[], metavar="SPEAKER", help="actors never trained on"
    )
    parser.add_argument(
        "--folds", type=int, default=0, help="cross-validate over this many groups of actors first"
    )
    parser.add_argument(
        "--steps", type=int, help="steps of the last stage; the others in proportion"
    )
    parser.add_argument(
        "--digit-strings", type=int, default=Recipe.digit_strings, help="strings made from FSDD"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    return parser


if __name__ == "__main__":
    main()
