"""Group embeddings by speaker, with the number of speakers unknown.

Every window's embedding, scaled to length one, is taken as its speaker's voice plus noise. How much
of it is voice is the one thing that must be known of the embedding model: the typical cosine
between two windows of one speaker. The number of speakers then follows from the evidence, not from
a threshold: a mixture of speakers is fitted by variational Bayes from several starts, and the start
whose evidence is highest wins; a speaker that doesn't explain enough windows costs more than it
gains.

The model is VBx (Landini et al., "Bayesian HMM clustering of x-vector sequences", Computer Speech &
Language 2022) without its Markov chain (:func:`api.services.diarization.turns` smooths over time)
and with isotropic covariances, so that it needs no PLDA. Starts are cuts of an average-linkage
dendrogram. Memory and time grow linearly with the recording: long ones are first condensed block by
block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist
from scipy.special import logsumexp

from api.errors import InvalidOption

DEFAULT_SAME_SPEAKER_COSINE = 0.5
"""Median over windows of 1.5 s by voices never heard in training, bundled checkpoint."""

MOST_SPEAKERS = 20
"""How many speakers are looked for when the caller names no maximum."""

# Windows overlap by half and neighbours say much the same, so each counts for less than its number
# of dimensions; likewise a speaker's number of windows is discounted. In VBx's terms: the first is
# F_A times the dimension, the second F_A / F_B. A further speaker must also raise the evidence by
# some nats. Nobody's voice is one point: moods and takes form small clusters of their own, whose
# evidence grows with the recording. A long one therefore needs more of it, as in coarsened
# posteriors (Miller & Dunson, JASA 2019), here by the root of its length: in proportion to it, one
# voice is never split, but six people who share a recording evenly become one.
# Chosen together on conversations of 1 to 4 voices held out of training, half a minute to six long.
_WINDOW_EVIDENCE = 22.0
_OCCUPANCY_DISCOUNT = 0.45
_SPEAKER_COST = 13.5
_COARSE_WINDOWS = 60

_FIT_STEPS = 30
_FIT_TOLERANCE = 1e-3
_START_DOUBT = 0.01  # what each window leaves to every speaker but its own at a start

_BLOCK = 400  # windows, five minutes of speech
_MOST_CONDENSED = 2000


def cluster(
    embeddings: NDArray[np.float32],
    *,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    same_speaker_cosine: float = DEFAULT_SAME_SPEAKER_COSINE,
) -> NDArray[np.int64]:
    """Label each embedding with its speaker.

    Args:
        embeddings: float32, shape (n, dim), of windows in order of time; any length but zero.
        num_speakers: exactly so many, or as many as there are windows when those are fewer.
        min_speakers, max_speakers: bounds on the number, likewise.
        same_speaker_cosine: typical cosine between two windows of one speaker, in (0, 1), when
            that of strangers is about zero; a property of the embedding model.

    Returns:
        Labels 0..k-1 in order of first appearance, int64, shape (n,).

    Raises:
        InvalidOption: bounds below one, or that contradict each other.
    """
    fewest, most = _bounds(num_speakers, min_speakers, max_speakers)
    num_windows = len(embeddings)
    if num_windows < 2 or most == 1:
        return np.zeros(num_windows, dtype=np.int64)
    fewest, most = min(fewest, num_windows), min(most, num_windows)
    units = unit_rows(embeddings.astype(np.float64))
    groups = _condense(units)
    merges = _dendrogram(_means(units, groups))
    num_groups = len(merges) + 1
    cost = _SPEAKER_COST * _coarseness(num_windows)
    best, best_evidence = None, -np.inf
    for num_clusters in range(1, min(max(most, MOST_SPEAKERS), num_groups) + 1):
        start = _cut(merges, num_clusters)[groups]
        evidence, labels = _fit(units, start, same_speaker_cosine)
        count = len(np.unique(labels))
        evidence -= cost * count
        if evidence > best_evidence and fewest <= count <= most:
            best, best_evidence = labels, evidence
    if best is None:
        best = _split_into(units, _cut(merges, min(fewest, num_groups))[groups], fewest)
    return by_first_appearance(best)


def unit_rows(vectors: NDArray[Any]) -> NDArray[Any]:
    """Scale each row to length one; rows of zeros stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[Any] = vectors / np.maximum(lengths, 1e-12)
    return scaled


def by_first_appearance(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rename labels to 0..k-1 in the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    renamed: NDArray[np.int64] = rank[inverse]
    return renamed


def _bounds(
    num_speakers: int | None, min_speakers: int | None, max_speakers: int | None
) -> tuple[int, int]:
    fewest = num_speakers or min_speakers or 1
    most = num_speakers or max_speakers or max(MOST_SPEAKERS, fewest)
    given = {
        "num_speakers": num_speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
    }
    for name, value in given.items():
        if value is not None and value < 1:
            raise InvalidOption(f"{name} must be at least 1", **{name: value})
    if (min_speakers or fewest) > fewest or (max_speakers or most) < most or fewest > most:
        raise InvalidOption("The numbers of speakers contradict each other", **given)
    return fewest, most


def _coarseness(num_windows: int) -> float:
    return float(np.sqrt(1 + num_windows / _COARSE_WINDOWS))


def _condense(units: NDArray[np.float64]) -> NDArray[np.int64]:
    """Group windows that are surely one speaker's, so that a dendrogram of the groups is small.

    Short recordings keep every window on its own. In a long one, each block of neighbours is
    reduced by average linkage to its share of 2,000 groups.
    """
    if len(units) <= _MOST_CONDENSED:
        return np.arange(len(units))
    num_blocks = -(-len(units) // _BLOCK)
    each = max(2, _MOST_CONDENSED // num_blocks)
    groups = np.empty(len(units), dtype=np.int64)
    for block in range(num_blocks):
        inside = slice(block * _BLOCK, (block + 1) * _BLOCK)
        members = units[inside]
        merged = np.arange(len(members))
        if len(members) > each:
            merged = _cut(_dendrogram(members), each)
        groups[inside] = block * each + merged
    return np.asarray(np.unique(groups, return_inverse=True)[1], dtype=np.int64)


def _means(units: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = np.zeros((int(groups.max()) + 1, units.shape[1]))
    np.add.at(sums, groups, units)
    return unit_rows(sums).astype(np.float64)


def _dendrogram(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average linkage by cosine distance: scipy's table of merges, shape (n - 1, 4)."""
    if len(units) < 2:
        return np.empty((0, 4))
    merges: NDArray[np.float64] = linkage(pdist(units, "sqeuclidean") / 2, "average")
    return merges


def _cut(merges: NDArray[np.float64], num_clusters: int) -> NDArray[np.int64]:
    """Labels of exactly so many clusters, ties or not; scipy's own cut joins equal distances."""
    num_leaves = len(merges) + 1
    roots = np.arange(2 * num_leaves - 1)
    for step in range(num_leaves - num_clusters - 1, -1, -1):
        roots[merges[step, :2].astype(int)] = roots[num_leaves + step]
    return np.asarray(np.unique(roots[:num_leaves], return_inverse=True)[1], dtype=np.int64)


def _fit(
    units: NDArray[np.float64], start: NDArray[np.int64], same_speaker_cosine: float
) -> tuple[float, NDArray[np.int64]]:
    """Fit a mixture of speakers from a start.

    Of an embedding of length one, a share ``s = same_speaker_cosine`` of the variance is voice and
    the rest noise. Formulas are VBx's (eqs. 16-17 and 25), written with embeddings of length one.

    Returns:
        The evidence lower bound, and labels in which speakers may have vanished.
    """
    s = same_speaker_cosine
    discount = _OCCUPANCY_DISCOUNT / _coarseness(len(units))
    ratio = discount * s / (1 - s)
    shares = np.full((len(units), int(start.max()) + 1), _START_DOUBT)
    shares[np.arange(len(units)), start] = 1.0
    shares /= shares.sum(axis=1, keepdims=True)
    weights = shares.mean(axis=0)
    evidence = -np.inf
    for _ in range(_FIT_STEPS):
        precision = 1 + ratio * shares.sum(axis=0)
        voices = ratio * (shares.T @ units) / precision[:, None]
        energy = np.square(voices).sum(axis=1)
        fitness = units @ voices.T - (energy + s / precision) / 2
        joint = _WINDOW_EVIDENCE / (1 - s) * fitness + np.log(weights + 1e-30)
        total = logsumexp(joint, axis=1, keepdims=True)
        shares = np.exp(joint - total)
        weights = shares.mean(axis=0)
        gain = 1 - np.log(precision) - 1 / precision - energy / s
        before = evidence
        evidence = float(total.sum() + _WINDOW_EVIDENCE / (2 * discount) * gain.sum())
        if evidence - before < _FIT_TOLERANCE:
            break
    return evidence, np.asarray(shares.argmax(axis=1), dtype=np.int64)


def _split_into(
    units: NDArray[np.float64], labels: NDArray[np.int64], num_clusters: int
) -> NDArray[np.int64]:
    """Split off the worst fitting windows until there are so many clusters."""
    labels = labels.copy()
    for new in range(int(labels.max()) + 1, num_clusters):
        fit = np.einsum("ij,ij->i", units, _means(units, labels)[labels])
        fit[np.bincount(labels)[labels] == 1] = np.inf
        labels[fit.argmin()] = new
    return labels
