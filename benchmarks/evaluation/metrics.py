"""Figures over all recordings, each with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.bootstrap import Estimate, estimate
from benchmarks.evaluation.scores import Errors, Score, SpeakerErrors

Statistic = Callable[[Sequence[Score]], float]


@dataclass(frozen=True)
class Metric:
    """How a figure comes from scores.

    Attributes:
        unit: "%" for a share, "s" for seconds, "" for a plain number.
        applies: whether a recording says anything about it.
        meaning: its definition in a few words.
    """

    key: str
    name: str
    unit: str
    applies: Callable[[Score], bool]
    of: Statistic
    meaning: str


def recalls(scores: Sequence[Score]) -> dict[str, float]:
    """Share of each reference emotion that was heard as such, by emotion."""
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for score in scores:
        for truth, heard in score.emotions or ():
            total[truth] = total.get(truth, 0) + 1
            right[truth] = right.get(truth, 0) + (truth == heard)
    return {label: right[label] / total[label] for label in sorted(total)}


def measure(scores: Sequence[Score]) -> dict[str, Estimate]:
    """Every metric that the references allow, by key."""
    measured = {}
    for metric in METRICS:
        found = estimate([score for score in scores if metric.applies(score)], metric.of)
        if found is not None:
            measured[metric.key] = found
    return measured


def by_condition(scores: Sequence[Score], name: str) -> dict[str, dict[str, Estimate]]:
    """The metrics of each value of a condition; recordings without it are left out."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        if name in score.conditions:
            groups.setdefault(str(score.conditions[name]), []).append(score)
    return {value: measure(groups[value]) for value in sorted(groups, key=_by_number)}


def _by_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _share_wrong(
    part: Callable[[Score], Errors | SpeakerErrors | None],
) -> tuple[Callable[[Score], bool], Statistic]:
    """Errors of all recordings over the reference of all: long recordings weigh more."""

    def applies(score: Score) -> bool:
        return part(score) is not None

    def statistic(scores: Sequence[Score]) -> float:
        errors = [e for e in map(part, scores) if e is not None]
        total = sum(e.total for e in errors)
        return sum(e.wrong for e in errors) / total if total else math.nan

    return applies, statistic


def _diarized(score: Score) -> bool:
    return score.diarization is not None


def _jaccard(scores: Sequence[Score]) -> float:
    found = [s.diarization for s in scores if s.diarization is not None]
    speakers = sum(d.speakers for d in found)
    return sum(d.jaccard for d in found) / speakers if speakers else math.nan


def _count_right(scores: Sequence[Score]) -> float:
    found = [s.diarization for s in scores if s.diarization is not None]
    return sum(d.found == d.speakers for d in found) / len(found)


def _count_bias(scores: Sequence[Score]) -> float:
    found = [s.diarization for s in scores if s.diarization is not None]
    return sum(d.found - d.speakers for d in found) / len(found)


def _timed(score: Score) -> bool:
    return score.word_times is not None


def _recognised(scores: Sequence[Score]) -> float:
    times = [s.word_times for s in scores if s.word_times is not None]
    total = sum(t.total for t in times)
    return sum(len(t.starts) for t in times) / total if total else math.nan


def _distance(end: bool, percentile: float) -> Statistic:
    def statistic(scores: Sequence[Score]) -> float:
        times = [s.word_times for s in scores if s.word_times is not None]
        pooled = [distance for t in times for distance in (t.ends if end else t.starts)]
        return float(np.percentile(pooled, percentile)) if pooled else math.nan

    return statistic


def _emotional(score: Score) -> bool:
    return bool(score.emotions)


def _unweighted_average_recall(scores: Sequence[Score]) -> float:
    by_label = recalls(scores)
    return sum(by_label.values()) / len(by_label) if by_label else math.nan


METRICS: Final = (
    Metric(
        "wer",
        "WER",
        "%",
        *_share_wrong(lambda score: score.words),
        "word errors (substituted, deleted, inserted) over the reference's words",
    ),
    Metric("cer", "CER", "%", *_share_wrong(lambda score: score.characters), "by characters"),
    Metric(
        "der",
        "DER",
        "%",
        *_share_wrong(lambda score: score.diarization.strict if score.diarization else None),
        "missed + false alarm + confused speaker time over speaker time; no collar, overlap counts",
    ),
    Metric(
        "der_nist",
        "DER, 0.25 s collar, no overlap",
        "%",
        *_share_wrong(lambda score: score.diarization.nist if score.diarization else None),
        "0.25 s forgiven on either side of each reference boundary, overlapped speech left out",
    ),
    Metric(
        "jer",
        "JER",
        "%",
        _diarized,
        _jaccard,
        "Jaccard error: mean over speakers of 1 - intersection / union with the matched one",
    ),
    Metric(
        "speaker_count_right",
        "speaker count right",
        "%",
        _diarized,
        _count_right,
        "recordings in which as many speakers were found as there are",
    ),
    Metric(
        "speaker_count_bias",
        "speakers found too many",
        "",
        _diarized,
        _count_bias,
        "mean of found minus true",
    ),
    Metric(
        "word_start_median",
        "word start error, median",
        "s",
        _timed,
        _distance(False, 50),
        "distance from the reference's start, over recognised words",
    ),
    Metric(
        "word_start_p90", "word start error, p90", "s", _timed, _distance(False, 90), "likewise"
    ),
    Metric(
        "word_end_median", "word end error, median", "s", _timed, _distance(True, 50), "likewise"
    ),
    Metric("word_end_p90", "word end error, p90", "s", _timed, _distance(True, 90), "likewise"),
    Metric(
        "words_timed",
        "words with compared times",
        "%",
        _timed,
        _recognised,
        "recognised words over the reference's: only their times can be compared",
    ),
    Metric(
        "uar",
        "UAR",
        "%",
        _emotional,
        _unweighted_average_recall,
        "unweighted average recall: mean over the reference's emotions of the share heard as such",
    ),
)
"""WER, DER and JER sum over recordings before dividing, as NIST's and dscore's tools do."""
