"""How well strangers are told apart: equal error rate and diarization error, count unknown.

Conversations are strung together from takes of voices that training never heard. Diarization error
is counted in frames of 10 ms, no collar, no overlap: (missed + false alarm + confused) / speech.
Speech regions are the truth, merged over gaps below 0.3 s, so that the detector adds no error of
its own (but whoever fills such a gap is charged a false alarm).

The diarizer is handed in, so that this package needs nothing of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from export.training.augment import lowpass
from export.training.corpora import SAMPLE_RATE_HZ
from export.training.speaker_voices import Takes, string_takes

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_FRAME_HZ = 100
_MERGED_GAP_S = 0.3
_FLOOR = 2e-4  # recordings are never digitally silent: -74 dB full scale
_LINE_CUTOFF_HZ = 3700.0


@dataclass(frozen=True)
class Span:
    """Somebody speaks, or, with an empty name, anybody: seconds from the start."""

    start: float
    end: float
    speaker: str = ""


@dataclass(frozen=True)
class Talk:
    """A conversation and its truth: float32 samples at 16 kHz, one span per turn."""

    samples: NDArray[np.float32]
    turns: tuple[Span, ...]

    @property
    def regions(self) -> list[Span]:
        """Where anybody speaks, merged over gaps below 0.3 s."""
        merged = [Span(self.turns[0].start, self.turns[0].end)]
        for turn in self.turns[1:]:
            if turn.start - merged[-1].end < _MERGED_GAP_S:
                merged[-1] = Span(merged[-1].start, turn.end)
            else:
                merged.append(Span(turn.start, turn.end))
        return merged


@dataclass(frozen=True)
class DiarizationScore:
    """Means over conversations; rates are shares of the reference speech."""

    conversations: int
    der: float
    confusion: float
    count_accuracy: float
    mean_count: float


class Diarizer(Protocol):
    """A function that finds who speaks when; what it returns has start, end and speaker."""

    def __call__(
        self,
        samples: NDArray[np.float32],
        regions: Sequence[Span],
        embed: Embed,
        *,
        num_speakers: int | None = None,
    ) -> Sequence[Any]: ...


def equal_error_rate(same: NDArray[np.float32], different: NDArray[np.float32]) -> float:
    """Error where false acceptances equal false rejections, given both kinds of scores."""
    scores = np.concatenate([same, different])
    order = np.argsort(-scores, kind="stable")
    is_same = np.concatenate([np.ones(len(same)), np.zeros(len(different))])[order]
    rejected = 1 - np.cumsum(is_same) / len(same)
    accepted = np.cumsum(1 - is_same) / len(different)
    crossing = int(np.argmin(np.abs(rejected - accepted)))
    return float((rejected[crossing] + accepted[crossing]) / 2)


def verification_error(
    embed: Embed,
    unseen: Mapping[str, Takes],
    seen: Mapping[str, Takes],
    window_s: float,
    rng: np.random.Generator,
    windows_each: int,
) -> dict[str, float]:
    """Equal error rates of cosine scoring between windows of single voices.

    Returns:
        "unseen_vs_unseen": both windows of voices never heard. "unseen_vs_all": impostors may be
        training voices. "unseen_vs_same_corpus": impostors of the same corpus only (same
        microphones, same language).
    """
    voices = {**unseen, **seen}
    num_samples = round(window_s * SAMPLE_RATE_HZ)
    clips = [
        string_takes(takes, num_samples, rng) + _floor(num_samples, rng)
        for takes in voices.values()
        for _ in range(windows_each)
    ]
    names = np.repeat(list(voices), windows_each)
    embeddings = embed(np.stack(clips))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(names), 1)
    scores = np.einsum("ij,ij->i", embeddings[first], embeddings[second])
    same = names[first] == names[second]
    is_unseen = np.isin(names, list(unseen))
    corpora = np.array([name.partition("-")[0] for name in names])
    both, either = is_unseen[first] & is_unseen[second], is_unseen[first] | is_unseen[second]
    targets = scores[same & both]
    impostors = {
        "unseen_vs_unseen": ~same & both,
        "unseen_vs_all": ~same & either,
        "unseen_vs_same_corpus": ~same & either & (corpora[first] == corpora[second]),
    }
    return {
        name: equal_error_rate(targets, scores[chosen])
        for name, chosen in impostors.items()
        if chosen.any()
    }


def make_talk(
    voices: Mapping[str, Takes], duration_s: float, rng: np.random.Generator, narrow: bool = False
) -> Talk:
    """String together a conversation: turns of 1.5 to 5 s, pauses of 50 to 600 ms, all speak.

    Args:
        voices: takes of those who take part.
        duration_s: at least this long.
        narrow: low-pass every voice as a telephone line does, so that bandwidth tells nothing.
    """
    names = list(voices)
    order = [names[i] for i in rng.permutation(len(names))]
    pieces: Takes = []
    turns: list[Span] = []
    at, turn = 0, 0
    while at < duration_s * SAMPLE_RATE_HZ or turn < len(names):
        name = order[turn] if turn < len(order) else _someone_else(names, turns[-1].speaker, rng)
        speech = string_takes(voices[name], round(rng.uniform(1.5, 5) * SAMPLE_RATE_HZ), rng)
        pause = np.zeros(round(rng.uniform(0.05, 0.6) * SAMPLE_RATE_HZ), dtype=np.float32)
        pieces += [lowpass(speech, _LINE_CUTOFF_HZ) if narrow else speech, pause]
        turns.append(Span(at / SAMPLE_RATE_HZ, (at + len(speech)) / SAMPLE_RATE_HZ, name))
        at += len(speech) + len(pause)
        turn += 1
    samples = np.concatenate(pieces)
    return Talk(samples + _floor(len(samples), rng), tuple(turns))


def make_talks(
    unseen: Mapping[str, Takes],
    seen: Mapping[str, Takes],
    num_speakers: int,
    num_talks: int,
    rng: np.random.Generator,
) -> list[Talk]:
    """Conversations of 30 to 60 s between unseen voices, filled up with seen ones where too few."""
    talks = []
    for index in range(num_talks):
        names = list(rng.permutation(list(unseen)))[:num_speakers]
        names += list(rng.permutation(list(seen)))[: num_speakers - len(names)]
        cast = {name: {**unseen, **seen}[name] for name in names}
        talks.append(make_talk(cast, rng.uniform(30, 60), rng, narrow=index % 2 == 1))
    return talks


def diarization_error(truth: Sequence[Span], found: Sequence[Any]) -> tuple[float, float]:
    """Compare two exclusive sets of turns.

    Returns:
        Diarization error rate and the confused share, both relative to the speech in ``truth``.
    """
    num_frames = 1 + round(max(span.end for span in [*truth, *found]) * _FRAME_HZ)
    reference, hypothesis = _frames(truth, num_frames), _frames(found, num_frames)
    shared = np.zeros((reference.max() + 1, max(1, hypothesis.max() + 1)))
    both = (reference >= 0) & (hypothesis >= 0)
    np.add.at(shared, (reference[both], hypothesis[both]), 1)
    rows, columns = linear_sum_assignment(-shared)
    confused = both.sum() - shared[rows, columns].sum()
    speech = (reference >= 0).sum()
    missed = ((reference >= 0) & (hypothesis < 0)).sum()
    false_alarm = ((reference < 0) & (hypothesis >= 0)).sum()
    return float((missed + false_alarm + confused) / speech), float(confused / speech)


def score_diarizer(
    diarize: Diarizer, embed: Embed, talks: Sequence[Talk]
) -> dict[str, DiarizationScore]:
    """Mean diarization error over conversations, and how often the speaker count was right.

    Returns:
        "count_unknown" and "count_known" (the diarizer is told the true number).
    """
    scores: dict[str, list[tuple[float, float, bool, int]]] = {}
    for talk in talks:
        true_count = len({turn.speaker for turn in talk.turns})
        embed_once = _remembering(embed)
        for case, known in (("count_unknown", None), ("count_known", true_count)):
            found = diarize(talk.samples, talk.regions, embed_once, num_speakers=known)
            count = len({turn.speaker for turn in found})
            error = diarization_error(talk.turns, found)
            scores.setdefault(case, []).append((*error, count == true_count, count))
    return {
        case: DiarizationScore(len(rows), *(float(mean) for mean in np.mean(rows, axis=0)))
        for case, rows in scores.items()
    }


def evaluate(
    embed: Embed,
    diarize: Diarizer,
    unseen: Mapping[str, Takes],
    seen: Mapping[str, Takes],
    *,
    seed: int,
    talks_each: int,
    windows_each: int,
) -> dict[str, Any]:
    """The whole report on one network, ready for JSON."""
    rng = np.random.default_rng(seed)
    report: dict[str, Any] = {
        f"eer_{window_s:g}s": verification_error(embed, unseen, seen, window_s, rng, windows_each)
        for window_s in (1.5, 3.0)
    }
    for num_speakers in (1, 2, 3, 4):
        talks = make_talks(unseen, seen, num_speakers, talks_each, rng)
        scores = score_diarizer(diarize, embed, talks)
        report[f"talks_of_{num_speakers}"] = {case: asdict(s) for case, s in scores.items()}
    return report


def _remembering(embed: Embed) -> Embed:
    """Embed once; every further call must be for the same windows."""
    known: list[NDArray[np.float32]] = []

    def embed_once(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        if not known:
            known.append(embed(windows))
        return known[0]

    return embed_once


def _someone_else(names: Sequence[str], speaker: str, rng: np.random.Generator) -> str:
    others = [name for name in names if name != speaker] or list(names)
    return others[rng.integers(len(others))]


def _floor(num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    return (rng.standard_normal(num_samples) * _FLOOR).astype(np.float32)


def _frames(spans: Sequence[Any], num_frames: int) -> NDArray[np.int64]:
    """Index of the speaker in each frame, -1 where nobody speaks."""
    names = {name: i for i, name in enumerate(sorted({span.speaker for span in spans}))}
    frames = np.full(num_frames, -1, dtype=np.int64)
    for span in spans:
        frames[round(span.start * _FRAME_HZ) : round(span.end * _FRAME_HZ)] = names[span.speaker]
    return frames
