"""Group embeddings by speaker, with the number of speakers unknown.

Every window's embedding, scaled to length one, is taken as its speaker's voice plus noise. How much
of it is voice is the one thing that must be known of the embedding model: the typical cosine
between two windows of one speaker. A mixture of speakers is fitted by variational Bayes from
several starts, each with another number of them. Of those whose speakers are all strangers to each
other, once the noise is taken out, the one with the highest evidence wins. Some of the noise goes
before that: each window is heard with its neighbours.

The model is VBx (Landini et al., "Bayesian HMM clustering of x-vector sequences", Computer Speech &
Language 2022) without its Markov chain (:func:`api.services.diarization.turns` smooths over time)
and with isotropic covariances, so that it needs no PLDA. Starts are cuts of an average-linkage
dendrogram. Time grows linearly with the recording, and so does memory, by the embeddings alone:
long recordings are first condensed block by block to at most 2,000 groups of windows, and all that
follows works on the groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

from api.errors import InvalidOption

DEFAULT_SAME_SPEAKER_COSINE = 0.55
"""Typical of windows of 1.5 s by one voice never heard in training, bundled checkpoint."""

MOST_SPEAKERS = 20
"""How many speakers are looked for when the caller names no maximum."""

# Windows overlap by half and neighbours say much the same, so each counts for less than its number
# of dimensions; likewise a speaker's number of windows is discounted. In VBx's terms: the first is
# F_A times the dimension, the second F_A / F_B. A further speaker must also raise the evidence by
# some nats. Nobody's voice is one point: moods and takes form small clusters of their own, whose
# evidence grows with the recording. A long one therefore needs more of it, as in coarsened
# posteriors (Miller & Dunson, JASA 2019), here by the root of its length: in proportion to it, one
# voice is never split, but six people who share a recording evenly become one.
# Chosen together on conversations of 1 to 6 voices held out of training, 20 to 150 s long,
# clean, narrow, noisy, reverberant and overlapping (docs/speakers.md).
_WINDOW_EVIDENCE = 22.0
_OCCUPANCY_DISCOUNT = 0.45
_SPEAKER_COST = 2.0
_COARSE_WINDOWS = 150

_STRANGERS = 0.7
"""Likeness at which two speakers are one. At 0.6 a third more of the speech of 192 conversations
went to the wrong one; above 0.7 it is little less, but single voices are split: docs/speakers.md"""

_FEWEST_WINDOWS = 2
"""A speaker of one window is noise rather than somebody."""

_FIT_STEPS = 30
_FIT_TOLERANCE = 1e-3
_START_DOUBT = 0.01  # what each window leaves to every speaker but its own at a start

_SIDE_BY_SIDE = 20_000
"""Shares that are fitted at once. Steps of few numbers cost the calls and not the computing; what
leaves the processor's nearest cache, and asks for memory, gains nothing."""

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
    groups, sums, sizes = _condense(_with_neighbours(unit_rows(embeddings.astype(np.float64))))
    merges = _dendrogram(unit_rows(sums))
    num_groups = len(sums)
    cost = _SPEAKER_COST * _coarseness(num_windows)
    most_started = min(max(most, MOST_SPEAKERS), num_groups)
    starts = [_cut(merges, num_clusters) for num_clusters in range(1, most_started + 1)]
    best, best_rank = None, (False, -np.inf)
    for evidence, labels in _fits(sums, sizes, starts, same_speaker_cosine):
        count = int(labels.max()) + 1
        if not fewest <= count <= most:
            continue
        plausible = count == fewest or _are_strangers(sums, sizes, labels, same_speaker_cosine)
        rank = (plausible, evidence - cost * count)
        if rank > best_rank:
            best, best_rank = labels, rank
    if best is None:
        best = _split_into(sums, _cut(merges, min(fewest, num_groups)), fewest)
    return by_first_appearance(best[groups])


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


def _with_neighbours(units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add to each window the one before and the one after, by as much as they resemble it.

    Most of the time they are the same speaker's, and half of what they heard is the same: what is
    left of a window's own chance is less. One that sounds like somebody else adds nothing.

    Args:
        units: rows of length one, in order of time.

    Returns:
        Rows of length one, in the same shape.
    """
    alike = np.maximum(0.0, (units[1:] * units[:-1]).sum(axis=1, keepdims=True))
    steadied = units.copy()
    steadied[1:] += alike * units[:-1]
    steadied[:-1] += alike * units[1:]
    return unit_rows(steadied)


def _coarseness(num_windows: int) -> float:
    return float(np.sqrt(1 + num_windows / _COARSE_WINDOWS))


def _condense(
    units: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Group windows that are surely one speaker's, so that a dendrogram of the groups is small.

    Short recordings keep every window on its own. In a long one, each block of neighbours is
    reduced by average linkage to its share of 2,000 groups.

    Returns:
        Each window's group, and each group's sum of embeddings and number of windows.
    """
    if len(units) <= _MOST_CONDENSED:
        return np.arange(len(units)), units, np.ones(len(units))
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
    groups = np.asarray(np.unique(groups, return_inverse=True)[1], dtype=np.int64)
    return groups, *sums_by(groups, units)


def sums_by(
    labels: NDArray[np.int64], rows: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the rows under each label 0..k-1, shape (k, dim), and their number or weight, (k,)."""
    sums = np.zeros((int(labels.max()) + 1, rows.shape[1]))
    np.add.at(sums, labels, rows)
    return sums, np.bincount(labels, weights).astype(np.float64)


def _are_strangers(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    labels: NDArray[np.int64],
    same_speaker_cosine: float,
) -> bool:
    """Whether no two of the speakers could be one, and each is heard more than in passing."""
    whose = (labels == np.arange(labels.max() + 1)[:, None]).astype(np.float64)
    voices, windows = whose @ sums, whose @ sizes
    if len(voices) == 1:
        return True
    alike = likeness(voices, windows, voices, windows, same_speaker_cosine)
    np.fill_diagonal(alike, -np.inf)
    return bool(alike.max() < _STRANGERS and windows.min() >= _FEWEST_WINDOWS)


def likeness(
    one: NDArray[np.float64],
    one_windows: NDArray[np.float64],
    other: NDArray[np.float64],
    other_windows: NDArray[np.float64],
    same_speaker_cosine: float,
) -> NDArray[np.float64]:
    """Cosine of mean voices in relation to the one that is typical of a single voice: 1 = as alike.

    An embedding is taken for a share ``same_speaker_cosine`` of voice and the rest noise, which
    fades as windows are averaged; windows overlap by half, and each counts for half.

    Args:
        one, other: means or sums of embeddings, shapes (k, dim) and (m, dim).
        one_windows, other_windows: how many windows each was taken of, shapes (k,) and (m,).

    Returns:
        Shape (k, m).
    """
    share = same_speaker_cosine
    purity = [
        share / (share + (1 - share) / ((windows + 1) / 2))
        for windows in (one_windows, other_windows)
    ]
    alike: NDArray[np.float64] = unit_rows(one) @ unit_rows(other).T
    relative: NDArray[np.float64] = alike / np.sqrt(np.outer(*purity))
    return relative


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


def _fits(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    starts: Sequence[NDArray[np.int64]],
    same_speaker_cosine: float,
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """Fit from every start: of short recordings from all side by side, of long ones one by one."""
    each = max(1, _SIDE_BY_SIDE // (len(sums) * len(starts)))
    for first in range(0, len(starts), each):
        together = starts[first : first + each]
        yield from zip(*_fit(sums, sizes, together, same_speaker_cosine), strict=True)


def _fit(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    starts: Sequence[NDArray[np.int64]],
    same_speaker_cosine: float,
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Fit mixtures of speakers, one from each start, side by side.

    Of an embedding of length one, a share ``s = same_speaker_cosine`` of the variance is voice and
    the rest noise. Formulas are VBx's (eqs. 16-17 and 25), written with embeddings of length one
    and for groups of windows that share their speaker. Every mixture has room for as many speakers
    as the largest has; nobody is there who has no share of any group.

    Args:
        sums: sum of each group's embeddings, shape (num_groups, dim).
        sizes: number of windows in each group, shape (num_groups,).
        starts: label of each group, one array for each start.

    Returns:
        The evidence lower bounds, shape (num_starts,), and for each start labels 0..k-1, from which
        speakers may have vanished.
    """
    if len(sums) < sums.shape[1]:
        sums = np.linalg.qr(sums.T)[1].T  # turned, so that all products stay as they are
    s, num_windows = same_speaker_cosine, sizes.sum()
    discount = _OCCUPANCY_DISCOUNT / _coarseness(int(num_windows))
    ratio = discount * s / (1 - s)
    shares = _first_shares(starts)  # (num_starts, num_speakers, num_groups)
    evidence = np.full(len(starts), -np.inf)
    moving = np.arange(len(starts))
    for _ in range(_FIT_STEPS):
        present = shares[moving]
        occupancy = present @ sizes
        precision = 1 + ratio * occupancy
        voices = ratio * _times(present, sums) / precision[..., None]
        energy = np.square(voices).sum(axis=2)
        fitness = _times(voices, sums.T) - (energy + s / precision)[..., None] * (sizes / 2)
        prior = np.log(occupancy / num_windows + 1e-30)[..., None] * sizes
        total, shares[moving] = _normalised(_WINDOW_EVIDENCE / (1 - s) * fitness + prior)
        gain = (1 - np.log(precision) - 1 / precision - energy / s).sum(axis=1)
        reached = total.sum(axis=1) + _WINDOW_EVIDENCE / (2 * discount) * gain
        rises = reached - evidence[moving] >= _FIT_TOLERANCE
        evidence[moving] = reached
        moving = moving[rises]
        if not len(moving):
            break
    fitted = [np.unique(likeliest, return_inverse=True)[1] for likeliest in shares.argmax(axis=1)]
    return evidence, fitted


def _first_shares(starts: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Each group's shares of its start's speakers, shape (num_starts, num_speakers, num_groups)."""
    counts = [int(start.max()) + 1 for start in starts]
    shares = np.zeros((len(starts), max(counts), len(starts[0])))
    for share, start, count in zip(shares, starts, counts, strict=True):
        share[:count] = _START_DOUBT
        share[start, np.arange(len(start))] = 1.0
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _times(stack: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A stack of matrices, shape (a, b, n), times one matrix (n, m), as one product."""
    product: NDArray[np.float64] = stack.reshape(-1, stack.shape[2]) @ matrix
    stacked: NDArray[np.float64] = product.reshape(*stack.shape[:2], -1)
    return stacked


def _normalised(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of sums over axis 1, shape (a, n), and shares of these, of logarithms (a, k, n).

    scipy's logsumexp, which serves every kind of array, takes four times as long on arrays as small
    as these.
    """
    highest = joint.max(axis=1, keepdims=True)
    parts = np.exp(joint - highest)
    sums = parts.sum(axis=1, keepdims=True)
    return (highest + np.log(sums))[:, 0], parts / sums


def _split_into(
    sums: NDArray[np.float64], labels: NDArray[np.int64], num_clusters: int
) -> NDArray[np.int64]:
    """Split off the worst fitting groups until there are so many clusters."""
    labels = labels.copy()
    units = unit_rows(sums)
    for new in range(int(labels.max()) + 1, num_clusters):
        voices = unit_rows(sums_by(labels, units)[0])
        fit = np.einsum("ij,ij->i", units, voices[labels])
        fit[np.bincount(labels)[labels] == 1] = np.inf
        labels[fit.argmin()] = new
    return labels
