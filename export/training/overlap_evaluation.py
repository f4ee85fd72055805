"""How often the overlap detector is right, frame by frame, on voices that it never heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.training.overlap_mixtures import CONDITIONS, MOST_AT_ONCE, Condition, mix
from export.training.overlap_network import CLIP_FRAMES, OverlapNetwork
from export.training.speaker_voices import Takes

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class FrameScore:
    """Shares of frames of 20 ms; precision is 1 where nothing was found."""

    threshold: float
    precision: float
    recall: float
    f1: float


def frame_score(
    found: NDArray[np.bool_], true: NDArray[np.bool_], threshold: float = 0.5
) -> FrameScore:
    """Compare what was found with what is true, in arrays of one shape."""
    hits = float((found & true).sum())
    precision = hits / found.sum() if found.any() else 1.0
    recall = hits / true.sum() if true.any() else 1.0
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return FrameScore(threshold, float(precision), float(recall), float(f1))


def evaluate(
    network: OverlapNetwork, voices: Mapping[str, Takes], *, seed: int, clips_each: int
) -> dict[str, Any]:
    """Scores by condition and threshold, ready for JSON."""
    return {
        name: [asdict(score) for score in _scores(network, voices, condition, seed, clips_each)]
        for name, condition in CONDITIONS.items()
    }


def _scores(
    network: OverlapNetwork,
    voices: Mapping[str, Takes],
    condition: Condition,
    seed: int,
    clips: int,
) -> list[FrameScore]:
    rng = np.random.default_rng(seed)
    drawn = [mix(voices, CLIP_FRAMES, rng, condition) for _ in range(clips)]
    heard = np.stack([network.probabilities(clip.samples[None])[0] for clip in drawn])
    true = np.stack([clip.voices >= MOST_AT_ONCE for clip in drawn])
    return [frame_score(heard >= threshold, true, threshold) for threshold in THRESHOLDS]
