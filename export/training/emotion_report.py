"""What cross-validation found, as JSON and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.training.emotion_calibration import reliability
from export.training.emotion_data import LABELS
from export.training.emotion_scoring import (
    BASIC_LABELS,
    fit_temperature,
    score,
)


@dataclass(frozen=True)
class Judgement:
    """What networks said about voices that they never heard.

    Attributes:
        speakers: EMO-DB's actors that were held out.
        logits: float32, shape (num_recordings, 7).
        truths: int64, shape (num_recordings,), indices into LABELS.
        digit_labels: share of each label on strings of digits by a held-out voice, empty without
            FSDD.
    """

    speakers: tuple[str, ...]
    logits: NDArray[np.float32]
    truths: NDArray[np.int64]
    digit_labels: dict[str, float]


def pooled(
    judgements: Sequence[Judgement],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (num_recordings, 7) and truths (num_recordings,) of all judgements together."""
    return (
        np.concatenate([judgement.logits for judgement in judgements]),
        np.concatenate([judgement.truths for judgement in judgements]),
    )


def report_scores(
    speakers: Sequence[str], logits: NDArray[np.float32], truths: NDArray[np.int64]
) -> dict[str, Any]:
    """Unweighted average recall and confusion over all labels and over the four basic ones."""
    every, basic = score(logits, truths), score(logits, truths, BASIC_LABELS)
    return {
        "speakers": list(speakers),
        "num_recordings": len(truths),
        "uar_7": every.uar,
        "uar_4": basic.uar,
        "confusion_7": every.confusion,
        "confusion_4": basic.confusion,
    }


def report_folds(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Scores per fold and of all folds together, and calibration.

    The calibration error "after" takes each fold's temperature from the other folds, as for a
    voice never heard.
    """
    logits, truths = pooled(judgements)
    cooled = []
    for judged in judgements:
        others = [other for other in judgements if other is not judged] or [judged]
        cooled.append(judged.logits / np.float32(fit_temperature(*pooled(others))))
    return {
        "each": [
            report_scores(j.speakers, j.logits, j.truths) | {"digits": j.digit_labels}
            for j in judgements
        ],
        "together": report_scores([s for j in judgements for s in j.speakers], logits, truths),
        "reliability_before": reliability(logits, truths),
        "reliability_after": reliability(np.concatenate(cooled), truths),
        "temperature": fit_temperature(logits, truths),
    }


def text_of(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"parameters {report['num_parameters']:,}, trained on {', '.join(report['trained_on'])}"
    ]
    folds = report.get("folds")
    judged = [*folds["each"], folds["together"]] if folds else []
    judged += [report["held_out"]] if "held_out" in report else []
    for scores in judged:
        digits = scores.get("digits", {}).get("neutral")
        lines.append(
            f"never heard {', '.join(scores['speakers'])}: {scores['num_recordings']} recordings, "
            f"UAR {scores['uar_7']:.3f} over 7 labels, {scores['uar_4']:.3f} over 4"
            + (f"; digits called neutral {digits:.2f}" if digits is not None else "")
        )
    if folds:
        after = folds["reliability_after"]
        lines += [
            f"calibration error {folds['reliability_before']['calibration_error']:.3f} before, "
            f"{after['calibration_error']:.3f} after temperature {report['temperature']:.2f}; "
            f"at least half sure of {after['certain']['share']:.3f}",
            *_table(LABELS, folds["together"]["confusion_7"]),
            *_table(BASIC_LABELS, folds["together"]["confusion_4"]),
        ]
    return "\n".join(lines)


def _table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    header = "truth \\ answer".ljust(16) + "".join(label.rjust(9) for label in labels)
    rows = zip(labels, confusion, strict=True)
    return [header] + [
        label.ljust(16) + "".join(str(count).rjust(9) for count in row) for label, row in rows
    ]
