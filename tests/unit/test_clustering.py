"""Clusters of made-up voices, and of arbitrary input."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.errors import InvalidOption
from api.services.clustering import cluster


def voices(counts: list[int], *, cosine: float = 0.5, dim: int = 128, seed: int = 0) -> Any:
    """Embeddings of made-up speakers: `counts[k]` windows of speaker k, in random order.

    Two windows of one speaker have the given cosine on average, strangers none.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(counts), dim))
    truth = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    noise = rng.standard_normal((len(truth), dim))
    mixed = np.sqrt(cosine) * centres[truth] + np.sqrt(1 - cosine) * noise
    scale = rng.uniform(0.1, 30, size=(len(truth), 1))  # raw embeddings are not normalised
    return (mixed * scale).astype(np.float32), truth


def agreement(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Share of windows that are with the majority of their cluster."""
    majorities = [np.bincount(truth[labels == k]).max() for k in np.unique(labels)]
    return float(sum(majorities) / len(truth))


class TestCluster:
    @pytest.mark.parametrize("num_speakers", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize("cosine", [0.35, 0.5, 0.7])
    def test_finds_the_number_of_speakers(self, num_speakers: int, cosine: float) -> None:
        for seed in range(3):
            embeddings, truth = voices([25] * num_speakers, cosine=cosine, seed=seed)
            labels = cluster(embeddings)
            assert len(np.unique(labels)) == num_speakers
            assert agreement(labels, truth) > 0.97

    def test_hub_sized_embeddings_need_no_other_constants(self) -> None:
        embeddings, truth = voices([30, 20, 40], cosine=0.6, dim=192)
        labels = cluster(embeddings, same_speaker_cosine=0.6)
        assert len(np.unique(labels)) == 3
        assert agreement(labels, truth) > 0.97

    def test_one_speaker_is_never_split(self) -> None:
        """A monologue came out as two or three speakers when silhouettes chose the count."""
        for seed in range(20):
            embeddings, _ = voices([10 + 10 * seed], seed=seed)
            assert not cluster(embeddings).any()

    def test_somebody_who_speaks_little_is_found(self) -> None:
        embeddings, truth = voices([120, 60, 6])
        labels = cluster(embeddings)
        assert len(np.unique(labels)) == 3
        assert agreement(labels, truth) > 0.97

    @pytest.mark.parametrize("wanted", [1, 2, 4, 7])
    def test_a_given_number_is_kept(self, wanted: int) -> None:
        embeddings, _ = voices([30, 30, 30])
        assert len(np.unique(cluster(embeddings, num_speakers=wanted))) == wanted

    def test_a_given_number_helps(self) -> None:
        embeddings, truth = voices([15, 15, 15, 15], cosine=0.2)
        assert agreement(cluster(embeddings, num_speakers=4), truth) > 0.9

    def test_neighbours_help(self) -> None:
        """The same windows, once in turns of eight and once in random order."""
        in_turns: list[float] = []
        shuffled: list[float] = []
        for seed in range(6):
            embeddings, truth = voices([32, 32, 32], cosine=0.12, dim=64, seed=seed)
            order = np.argsort(truth, kind="stable").reshape(3, 4, 8).transpose(1, 0, 2).ravel()
            for found, rows in ((in_turns, order), (shuffled, np.arange(len(truth)))):
                labels = cluster(embeddings[rows], num_speakers=3)
                found.append(agreement(labels, truth[rows]))
        assert np.mean(in_turns) > np.mean(shuffled) + 0.05

    def test_bounds_hold_and_the_evidence_decides_between_them(self) -> None:
        embeddings, _ = voices([30, 30, 30])
        assert len(np.unique(cluster(embeddings, min_speakers=5))) >= 5
        assert len(np.unique(cluster(embeddings, max_speakers=2))) == 2
        assert len(np.unique(cluster(embeddings, min_speakers=2, max_speakers=8))) == 3

    @pytest.mark.parametrize(
        "bounds",
        [
            {"num_speakers": 0},
            {"min_speakers": -1},
            {"min_speakers": 3, "max_speakers": 2},
            {"num_speakers": 2, "min_speakers": 3},
            {"num_speakers": 4, "max_speakers": 3},
        ],
    )
    def test_bounds_that_cannot_hold_are_refused(self, bounds: dict[str, int]) -> None:
        embeddings, _ = voices([5, 5])
        with pytest.raises(InvalidOption):
            cluster(embeddings, **bounds)

    def test_more_speakers_than_windows_gives_every_window_its_own(self) -> None:
        embeddings, _ = voices([2, 1])
        assert cluster(embeddings, num_speakers=5).tolist() == [0, 1, 2]

    def test_equal_and_empty_embeddings_can_still_be_split(self) -> None:
        """scipy's own cut of a dendrogram never parts equal embeddings, whatever is asked for."""
        for embeddings in (np.ones((6, 8), np.float32), np.zeros((6, 8), np.float32)):
            assert len(np.unique(cluster(embeddings))) == 1
            assert len(np.unique(cluster(embeddings, num_speakers=3))) == 3

    def test_nothing_is_nobody(self) -> None:
        assert cluster(np.empty((0, 128), np.float32)).tolist() == []

    def test_four_hours_are_clustered_in_bounded_memory(self) -> None:
        """A table of 19,000 by 19,000 similarities would take 2.9 GB, half of one 1.4 GB."""
        embeddings, truth = voices([9000, 6000, 3000, 1000])
        tracemalloc.start()
        try:
            labels = cluster(embeddings)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak_bytes < 100 * 2**20
        assert len(np.unique(labels)) == 4
        assert agreement(labels, truth) > 0.97

    def test_two_alike_voices_are_one_and_two_strangers_are_two(self) -> None:
        """Halves of one voice that differ by mood came out as two in recordings of minutes."""
        for apart, count in ((0.25, 1), (0.9, 2)):
            embeddings, _ = voices_apart(apart)
            assert len(np.unique(cluster(embeddings))) == count

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_labels_are_contiguous_in_bounds_and_by_first_appearance(
        self, data: st.DataObject
    ) -> None:
        count = data.draw(st.integers(0, 30))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
        embeddings = rng.standard_normal((count, 4)).astype(np.float32)
        embeddings[: data.draw(st.integers(0, count))] = 1.0
        fewest = data.draw(st.none() | st.integers(1, 6))
        most = data.draw(st.none() | st.integers(fewest or 1, 9))
        labels = cluster(embeddings, min_speakers=fewest, max_speakers=most)
        found = list(dict.fromkeys(labels.tolist()))
        assert len(labels) == count
        assert found == list(range(len(found)))
        assert min(fewest or 1, count) <= len(found) <= min(most or count, count)


def voices_apart(apart: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Two clusters whose true means have a cosine of 1 - apart; windows of one, 0.5 on average."""
    rng = np.random.default_rng(3)
    shared, own = rng.standard_normal((1, 128)), rng.standard_normal((2, 128))
    centres = np.sqrt(1 - apart) * shared + np.sqrt(apart) * own
    truth = np.repeat([0, 1], 60)
    noise = rng.standard_normal((120, 128))
    return ((centres[truth] + noise) / np.sqrt(2)).astype(np.float32), truth
