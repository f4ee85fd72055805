"""How far an emotion classifier's probabilities can be believed: tables and the reliability plot.

    python -m export.training.emotion_calibration report.json reliability.png

draws the plot of a training run's report anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from export.training.emotion_scoring import calibration_error, softmax

NUM_BINS = 10
CERTAIN_FROM = 0.5
"""The service names a label from here on, and says `uncertain` below."""

_DRAWS = 500


def reliability(logits: NDArray[np.float32], truths: NDArray[np.int64]) -> dict[str, Any]:
    """Calibration on recordings, by how sure the classifier was.

    Args:
        logits: float32, shape (num_recordings, num_labels).
        truths: int64, shape (num_recordings,).

    Returns:
        `bins`, each with its mean `confidence`, the `share_right` and the `count`;
        `calibration_error`, and `of_a_perfect_classifier`: the error that so few recordings show
        where every probability is true (mean and 95th percentile of 500 draws of the truths);
        `certain`: for what is at least 50% sure its share and the share right.
    """
    probabilities = softmax(logits)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truths
    place = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    rng = np.random.default_rng(0)
    drawn = [
        calibration_error(logits, (rng.random((len(truths), 1)) > probabilities.cumsum(1)).sum(1))
        for _ in range(_DRAWS)
    ]
    sure = confidence >= CERTAIN_FROM
    return {
        "bins": [
            {
                "confidence": float(confidence[place == n].mean()),
                "share_right": float(right[place == n].mean()),
                "count": int((place == n).sum()),
            }
            for n in np.unique(place)
        ],
        "calibration_error": calibration_error(logits, truths),
        "of_a_perfect_classifier": [float(np.mean(drawn)), float(np.quantile(drawn, 0.95))],
        "certain": {
            "share": float(sure.mean()),
            "share_right": float(right[sure].mean()) if sure.any() else None,
            "share_right_below": float(right[~sure].mean()) if not sure.all() else None,
        },
    }


def draw(before: dict[str, Any], after: dict[str, Any], file: Path) -> None:
    """Write the reliability plot of two tables as a PNG: above the diagonal is too modest."""
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    _panel(axes[0], before, "As trained")
    _panel(axes[1], after, "With the temperature")
    axes[0].set_ylabel("Share that was right")
    figure.suptitle("How often the emotion was right, by how sure the classifier was")
    figure.savefig(file, dpi=110)


def _panel(axes: Axes, table: dict[str, Any], title: str) -> None:
    x = np.array([row["confidence"] for row in table["bins"]])
    y = np.array([row["share_right"] for row in table["bins"]])
    count = np.array([row["count"] for row in table["bins"]])
    low, high = _wilson(y, count)
    axes.plot([0, 1], [0, 1], color="#9aa3b2", linestyle="--", linewidth=1)
    axes.bar(x, count / count.sum(), width=0.05, color="#d7dee9", label="Share of recordings")
    axes.vlines(x, low, high, color="#7a9cc6", linewidth=3)
    axes.plot(x, y, "o", color="#1f3d66", label="Right, with 95% interval")
    floor = table["of_a_perfect_classifier"][0]
    axes.set_title(
        f"{title}: error {100 * table['calibration_error']:.1f}%\n"
        f"(a perfect classifier would show {100 * floor:.1f}% on so few)",
        fontsize=9,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="Probability of the likeliest label")
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _wilson(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% intervals of shares (Wilson, JASA 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return middle - half, middle + half


def main(arguments: Sequence[str] | None = None) -> None:
    report, file = sys.argv[1:] if arguments is None else arguments
    folds = json.loads(Path(report).read_text())["folds"]
    draw(folds["reliability_before"], folds["reliability_after"], Path(file))


if __name__ == "__main__":
    main()
