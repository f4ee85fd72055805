"""Judges an emotion classifier: recall, confusion and calibration on voices it has never heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import Wav2Vec2ForSequenceClassification

from export.training.corpora import Recording
from export.training.emotion_data import LABELS, WINDOW, label_of, standardise

# The four labels of the hub's usual checkpoint (superb/wav2vec2-base-superb-er, IEMOCAP).
BASIC_LABELS = ("angry", "happy", "neutral", "sad")


@dataclass(frozen=True)
class Scores:
    """How well logits name emotions.

    Attributes:
        uar: unweighted average recall over the labels that occur, 0 to 1.
        accuracy: share of right answers.
        confusion: ``confusion[truth][answer]`` counts, in the order of ``labels``.
        labels: the labels that were told apart.
    """

    uar: float
    accuracy: float
    confusion: list[list[int]]
    labels: tuple[str, ...]


def window_of(recording: Recording) -> NDArray[np.float32]:
    """Two seconds of an utterance, its middle or repeated: float32, shape (32000,)."""
    surplus = max(0, len(recording.audio) - WINDOW)
    return np.resize(recording.audio[surplus // 2 :], WINDOW)


@torch.inference_mode()
def predict(
    model: Wav2Vec2ForSequenceClassification, windows: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits of windows of equal length: float32, shape (num_windows, num_labels)."""
    logits = []
    for first in range(0, len(windows), 32):
        audio = standardise(torch.from_numpy(np.stack(windows[first : first + 32])))
        logits.append(model(audio).logits)
    return torch.cat(logits).numpy()


def truths_of(recordings: Sequence[Recording]) -> NDArray[np.int64]:
    """Indices into LABELS, shape (num_recordings,)."""
    return np.array([label_of(recording) for recording in recordings], np.int64)


def score(
    logits: NDArray[np.float32], truths: NDArray[np.int64], labels: Sequence[str] = LABELS
) -> Scores:
    """Score the recordings whose true label is among ``labels``, answers restricted to these.

    Args:
        logits: float32, shape (num_recordings, 7).
        truths: int64, shape (num_recordings,).

    Raises:
        ValueError: no recording has any of the labels.
    """
    columns = np.array([LABELS.index(label) for label in labels])
    among = np.isin(truths, columns)
    if not among.any():
        raise ValueError(f"no recording is labelled {', '.join(labels)}")
    answers = logits[among][:, columns].argmax(1)
    confusion = np.zeros((len(columns), len(columns)), np.int64)
    true_columns = (truths[among][:, None] == columns).argmax(1)
    np.add.at(confusion, (true_columns, answers), 1)
    totals = confusion.sum(1)
    recalls = np.diag(confusion)[totals > 0] / totals[totals > 0]
    return Scores(
        uar=float(recalls.mean()),
        accuracy=float(np.diag(confusion).sum() / totals.sum()),
        confusion=confusion.tolist(),
        labels=tuple(labels),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, float32, shape (num_recordings, num_labels)."""
    return torch.softmax(torch.from_numpy(logits), 1).numpy()


def calibration_error(
    logits: NDArray[np.float32], truths: NDArray[np.int64], num_bins: int = 10
) -> float:
    """Expected calibration error, 0 to 1, over equally wide bins (Guo et al., ICML 2017)."""
    probabilities = softmax(logits)
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truths
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(confidence[bins == index].mean() - right[bins == index].mean()) * (bins == index).mean()
        for index in np.unique(bins)
    ]
    return float(sum(gaps))


def fit_temperature(logits: NDArray[np.float32], truths: NDArray[np.int64]) -> float:
    """The divisor of the logits, 0.2 to 5, with the least cross entropy (Guo et al., ICML 2017)."""
    scores, targets = torch.from_numpy(logits), torch.from_numpy(truths)
    candidates = np.geomspace(0.2, 5.0, 161)
    losses = [float(functional.cross_entropy(scores / float(t), targets)) for t in candidates]
    return float(candidates[int(np.argmin(losses))])
