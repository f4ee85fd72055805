"""The results as a table, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bootstrap import LEVEL, RESAMPLES, Estimate
from benchmarks.evaluation.answers import Answer
from benchmarks.evaluation.metrics import METRICS, by_condition, measure, recalls
from benchmarks.evaluation.scores import Score


@dataclass(frozen=True)
class Results:
    """All that an evaluation found.

    Attributes:
        settings: what was asked of whom, for the record.
        models: the releases that answered, as the analyses name them.
        by: the condition that figures are also given by, None = none.
    """

    settings: Mapping[str, Any]
    models: Mapping[str, Any]
    scores: Sequence[Score]
    failed: Sequence[Answer]
    by: str | None

    @property
    def audio_s(self) -> float:
        return sum(score.duration for score in self.scores)


def as_markdown(results: Results) -> str:
    """The figures as Markdown tables, which read well in a terminal too."""
    lines = [
        f"{len(results.scores)} recordings, {results.audio_s / 60:.1f} minutes; "
        f"{len(results.failed)} failed",
        "",
        *_table("", {f"{LEVEL:.0%} interval": measure(results.scores)}, with_interval=True),
    ]
    if results.by is not None:
        groups = by_condition(results.scores, results.by)
        lines += ["", f"By {results.by}:", "", *_table("", groups, with_interval=False)]
    recall = recalls(results.scores)
    if recall:
        lines += ["", "Recall by emotion: " + ", ".join(f"{k} {v:.1%}" for k, v in recall.items())]
    lines += ["", *_definitions(results)]
    if results.failed:
        lines += ["", "Failed:", ""]
        lines += [f"- {answer.recording.id}: {answer.error}" for answer in results.failed]
    return "\n".join(lines) + "\n"


def as_json(results: Results) -> str:
    """Everything, down to the counts of each recording."""
    return (
        json.dumps(
            {
                "settings": results.settings,
                "models": results.models,
                "recordings": len(results.scores),
                "audio_s": results.audio_s,
                "failed": {a.recording.id: a.error for a in results.failed},
                "metrics": {k: asdict(v) for k, v in measure(results.scores).items()},
                "by_condition": {
                    value: {k: asdict(v) for k, v in measured.items()}
                    for value, measured in (
                        by_condition(results.scores, results.by) if results.by else {}
                    ).items()
                },
                "recall_by_emotion": recalls(results.scores),
                "scores": [asdict(score) for score in results.scores],
            },
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
    )


def write(results: Results, folder: Path) -> None:
    """Writes report.md and results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text("# Evaluation\n\n" + as_markdown(results))
    (folder / "results.json").write_text(as_json(results))


def shown(value: float, unit: str) -> str:
    """A figure with its unit: `12.3%`, `0.084 s`, `+0.25`."""
    if unit == "%":
        return f"{100 * value:.1f}%"
    return f"{value:.3f} s" if unit == "s" else f"{value:+.2f}"


def _table(
    corner: str, columns: Mapping[str, Mapping[str, Estimate]], with_interval: bool
) -> list[str]:
    names = ["", "all", *columns, "recordings"] if with_interval else [corner, *columns]
    rows = []
    for metric in METRICS:
        found = [measured.get(metric.key) for measured in columns.values()]
        if not any(found):
            continue
        cells = [shown(e.value, metric.unit) if e else "" for e in found]
        if with_interval and found[0]:
            cells = [*cells, _interval(found[0], metric.unit), str(found[0].count)]
        rows.append([metric.name, *cells])
    if not rows:
        return ["Nothing to score: the manifest has no labels."]
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    lines = [_line(row, widths) for row in [names, ["-" * w for w in widths], *rows]]
    return lines


def _interval(found: Estimate, unit: str) -> str:
    if found.low is None or found.high is None:
        return "one recording"
    return f"{shown(found.low, unit)} – {shown(found.high, unit)}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"


def _definitions(results: Results) -> list[str]:
    measured = measure(results.scores)
    lines = [f"- {metric.name}: {metric.meaning}" for metric in METRICS if metric.key in measured]
    return [
        f"Text: {results.settings['normalisation']}. Intervals: bootstrap over recordings, "
        f"{RESAMPLES} resamples.",
        "",
        *lines,
    ]
