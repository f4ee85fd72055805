"""The results as pictures: figures with intervals, word times, emotions, speaker counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evaluation.metrics import METRICS, by_condition, measure
from benchmarks.evaluation.report import Results, shown
from benchmarks.evaluation.scores import Score


def draw(results: Results, folder: Path) -> list[Path]:
    """Writes a PNG of everything that the references allow; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "figures": _figures(results.scores),
        "word_times": _word_times(results.scores),
        "emotions": _emotions(results.scores),
        "speaker_counts": _speaker_counts(results.scores),
        "conditions": _conditions(results),
    }
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=120)
    return paths


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _figures(scores: Sequence[Score]) -> Figure | None:
    """Every share with its interval."""
    measured = measure(scores)
    rows = [(m, measured[m.key]) for m in METRICS if m.unit == "%" and m.key in measured]
    if not rows:
        return None
    figure, axes = _new(7, 0.8 + 0.45 * len(rows))
    for y, (metric, found) in enumerate(rows):
        low, high = (found.value if x is None else x for x in (found.low, found.high))
        axes.plot([100 * low, 100 * high], [y, y], color="#7a9cc6", linewidth=5)
        axes.plot(100 * found.value, y, "o", color="#1f3d66")
        axes.annotate(
            shown(found.value, metric.unit),
            (100 * found.value, y),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(rows)), [metric.name for metric, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.set_xlim(left=0)
    axes.set_xlabel("%, with 95% interval")
    return figure


def _word_times(scores: Sequence[Score]) -> Figure | None:
    """Share of words whose times are at most so far off."""
    times = [score.word_times for score in scores if score.word_times is not None]
    pooled = {
        "start": [d for t in times for d in t.starts],
        "end": [d for t in times for d in t.ends],
    }
    if not pooled["start"]:
        return None
    figure, axes = _new(6, 4)
    for name, distances in pooled.items():
        axes.ecdf(distances, label=f"{name} of a word")
    axes.set_xlim(0, 0.6)
    axes.set_xlabel("distance from the reference, s")
    axes.set_ylabel("share of recognised words")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def _emotions(scores: Sequence[Score]) -> Figure | None:
    pairs = [pair for score in scores for pair in score.emotions or ()]
    if not pairs:
        return None
    truths = sorted({truth for truth, _ in pairs})
    heard = sorted({answer for _, answer in pairs} | set(truths))
    return _matrix(pairs, truths, heard, "heard", "reference")


def _speaker_counts(scores: Sequence[Score]) -> Figure | None:
    found = [score.diarization for score in scores if score.diarization is not None]
    if not found:
        return None
    pairs = [(d.speakers, d.found) for d in found]
    everything = range(min(map(min, pairs)), max(map(max, pairs)) + 1)
    truths = [n for n in everything if any(n == truth for truth, _ in pairs)]
    return _matrix(pairs, truths, list(everything), "speakers found", "speakers")


def _matrix(
    pairs: Sequence[tuple[object, object]],
    truths: Sequence[object],
    answers: Sequence[object],
    across: str,
    down: str,
) -> Figure:
    """How often each answer came for each truth; colours by row."""
    counts = np.array([[pairs.count((t, a)) for a in answers] for t in truths])
    figure, axes = _new(2 + 0.75 * len(answers), 1.6 + 0.55 * len(truths))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(answers)), [str(a) for a in answers], rotation=30, ha="right")
    axes.set_yticks(range(len(truths)), [str(t) for t in truths])
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    return figure


def _conditions(results: Results) -> Figure | None:
    """Error rates by the condition that was asked for."""
    groups = by_condition(results.scores, results.by) if results.by else {}
    if len(groups) < 2:
        return None
    figure, axes = _new(7, 4)
    for metric in METRICS:
        points = [(value, m[metric.key]) for value, m in groups.items() if metric.key in m]
        if metric.key not in ("wer", "der", "jer", "uar") or not points:
            continue
        x = [list(groups).index(value) for value, _ in points]
        y = [100 * found.value for _, found in points]
        low = [100 * (f.value - (f.value if f.low is None else f.low)) for _, f in points]
        high = [100 * ((f.value if f.high is None else f.high) - f.value) for _, f in points]
        axes.errorbar(
            x, y, yerr=np.maximum([low, high], 0), marker="o", capsize=4, label=metric.name
        )
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlabel(results.by or "")
    axes.set_ylabel("%, with 95% interval")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
