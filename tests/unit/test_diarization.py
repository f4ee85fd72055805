"""Windows, clusters, turns and speakers of words, on made-up voices and on arbitrary input."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.errors import InvalidOption
from api.services.clustering import cluster
from api.services.diarization import (
    WINDOW_SAMPLES,
    assign_speakers,
    assign_words,
    diarize,
    turns,
    windows,
)
from api.services.windows import Window
from api.types import SAMPLE_RATE_HZ, Region, Segment, Turn, Waveform, Word


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

    def test_four_hours_are_clustered_in_seconds(self) -> None:
        embeddings, truth = voices([9000, 6000, 3500, 1500])
        start_s = time.process_time()
        labels = cluster(embeddings)
        assert time.process_time() - start_s < 60
        assert len(np.unique(labels)) == 4
        assert agreement(labels, truth) > 0.97

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


class TestWindows:
    def test_windows_overlap_by_half_and_end_flush(self) -> None:
        samples = np.arange(6 * SAMPLE_RATE_HZ, dtype=np.float32)
        cut = windows(Waveform(samples), [Region(1.0, 4.25)])
        assert [(w.start_s, w.end_s) for w in cut] == [
            (1.0, 2.5),
            (1.75, 3.25),
            (2.5, 4.0),
            (2.75, 4.25),
        ]
        for window in cut:
            assert np.shares_memory(window.samples, samples)
            assert window.samples[0] == window.start_s * SAMPLE_RATE_HZ

    def test_short_speech_is_repeated_and_not_padded(self) -> None:
        samples = np.arange(2 * SAMPLE_RATE_HZ, dtype=np.float32)
        (window,) = windows(Waveform(samples), [Region(1.0, 1.4)])
        assert (window.start_s, window.end_s) == (1.0, 1.4)
        assert window.samples.shape == (WINDOW_SAMPLES,)
        assert set(window.samples) == set(range(16000, 22400))

    def test_short_pauses_do_not_break_a_window(self) -> None:
        samples = np.zeros(5 * SAMPLE_RATE_HZ, np.float32)
        assert (
            len(windows(Waveform(samples), [Region(0, 0.8), Region(1.0, 1.5), Region(3, 3.5)])) == 2
        )

    def test_speech_beyond_the_recording_is_left_out(self) -> None:
        samples = np.zeros(SAMPLE_RATE_HZ, np.float32)
        assert windows(Waveform(samples), [Region(1.2, 3.0)]) == []
        assert windows(Waveform(samples), []) == []

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0.02, 3.0), min_size=2, max_size=16))
    def test_every_region_is_covered_by_windows_of_one_size(self, steps: list[float]) -> None:
        regions = regions_from(steps)
        samples = np.zeros(int(regions[-1].end * SAMPLE_RATE_HZ) + 1, np.float32)
        cut = windows(Waveform(samples), regions)
        assert {len(window.samples) for window in cut} == {WINDOW_SAMPLES}
        for region in regions:
            for moment in np.linspace(region.start + 1e-3, region.end - 1e-3, 5):
                assert any(w.start_s <= moment <= w.end_s for w in cut)


def regions_from(steps: list[float]) -> list[Region]:
    edges = np.cumsum(steps).tolist()
    return [Region(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]


def one_hot(labels: list[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.eye(8, dtype=np.float32)[labels], np.array(labels)


class TestTurns:
    def test_a_change_of_speaker_is_drawn_between_the_windows(self) -> None:
        region = Region(0.5, 8.0)
        cut = windows(Waveform(np.zeros(9 * SAMPLE_RATE_HZ, np.float32)), [region])
        found = turns(cut, *one_hot([0] * 5 + [1] * 4), [region])
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01"]
        assert found[0].start == 0.5
        assert found[0].end == found[1].start == pytest.approx(4.625, abs=0.02)
        assert found[1].end == pytest.approx(8.0)

    def test_speakers_are_named_in_the_order_of_speech(self) -> None:
        regions = [Region(0, 2), Region(3, 5), Region(6, 8)]
        cut = windows(Waveform(np.zeros(8 * SAMPLE_RATE_HZ, np.float32)), regions)
        found = turns(cut, *one_hot([5, 5, 2, 2, 5, 5]), regions)
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00"]

    def test_a_blip_between_two_windows_is_no_turn(self) -> None:
        """Interpolating between two speakers can brush a third one for a few frames."""
        region = Region(0.0, 3.0)
        silence = Waveform(np.zeros(48_000, np.float32))
        cut = [Window(a, a + 1.5, WINDOW_SAMPLES, silence) for a in (0.0, 0.75, 1.5)]
        near_both = np.array([[1, 0, 0.9], [0, 0, 1], [0, 1, 0.9]], dtype=np.float32)
        found = turns(cut, near_both, np.array([0, 2, 1]), [region])
        assert all(turn.duration_s >= 0.5 for turn in found)

    def test_a_border_moves_to_the_pause_beside_it(self) -> None:
        samples = np.random.default_rng(0).standard_normal(8 * SAMPLE_RATE_HZ).astype(np.float32)
        pause_s = 4.6
        samples[int(4.5 * SAMPLE_RATE_HZ) : int(4.7 * SAMPLE_RATE_HZ)] *= 0.01
        cut = windows(Waveform(samples), [Region(0.0, 8.0)])
        found = turns(cut, *one_hot([0] * 6 + [1] * 4), [Region(0.0, 8.0)])
        assert len(found) == 2
        assert abs(found[0].end - pause_s) < 0.1

    def test_windows_and_labels_must_match(self) -> None:
        cut = windows(Waveform(np.zeros(3 * SAMPLE_RATE_HZ, np.float32)), [Region(0, 3)])
        with pytest.raises(ValueError, match="3 windows, 2 embeddings"):
            turns(cut, *one_hot([0, 1]), [Region(0, 3)])

    def test_no_speech_no_turns(self) -> None:
        assert turns([], np.empty((0, 4), np.float32), np.empty(0, np.int64), []) == []

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.floats(0.02, 4.0), min_size=2, max_size=20), st.integers(0, 2**16))
    def test_turns_cover_the_regions_and_nothing_else(self, steps: list[float], seed: int) -> None:
        regions = regions_from(steps)
        cut = windows(
            Waveform(np.zeros(int(regions[-1].end * SAMPLE_RATE_HZ) + 1, np.float32)), regions
        )
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, len(cut))
        labels = np.unique(labels, return_inverse=True)[1]
        embeddings = (np.eye(4)[labels] + 0.5 * rng.standard_normal((len(cut), 4))).astype("f")
        found = turns(cut, embeddings, labels, regions)
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(found))
        assert all(
            any(r.start - 1e-9 <= turn.start < turn.end <= r.end + 1e-9 for r in regions)
            for turn in found
        )
        spoken = sum(turn.duration_s for turn in found)
        assert spoken == pytest.approx(sum(region.duration_s for region in regions))


class TestDiarize:
    def test_from_samples_to_turns(self) -> None:
        """The "voice" is the level, which the model hears; the border lies in the pause."""
        rate = SAMPLE_RATE_HZ
        samples = np.repeat([1.0, 0.0, 2.0], [4 * rate, rate // 5, 5 * rate]).astype(np.float32)
        regions = [Region(0.0, 4.0), Region(4.2, 9.2)]

        def embed(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            voices = np.median(batch, axis=1).astype(int)
            return np.eye(3)[voices].astype(np.float32)

        found = diarize(Waveform(samples), regions, embed)
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01"]
        assert (found[0].start, found[0].end) == (0.0, 4.0)
        assert (found[1].start, found[1].end) == (4.2, 9.2)
        assert diarize(Waveform(samples), [], embed) == []


SPOKEN = [Turn(0.0, 2.0, "SPEAKER_00"), Turn(2.0, 4.0, "SPEAKER_01"), Turn(6.0, 7.0, "SPEAKER_00")]


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, probability=0.9)


class TestAssignSpeakers:
    @pytest.mark.parametrize(
        ("start", "end", "speaker"),
        [
            (0.5, 1.0, "SPEAKER_00"),
            (1.5, 2.2, "SPEAKER_00"),
            (1.8, 2.5, "SPEAKER_01"),
            (4.2, 4.6, "SPEAKER_01"),
            (5.5, 5.9, "SPEAKER_00"),
            (9.0, 9.5, "SPEAKER_00"),
            (3.0, 3.0, "SPEAKER_01"),
        ],
    )
    def test_a_word_goes_to_whom_it_overlaps_most_or_to_the_nearest(
        self, start: float, end: float, speaker: str
    ) -> None:
        (assigned,) = assign_words([word(" one", start, end)], SPOKEN)
        assert assigned.speaker == speaker

    def test_without_turns_words_keep_no_speaker(self) -> None:
        assert assign_words([word(" one", 0, 1)], [])[0].speaker is None

    def test_a_segment_is_split_where_the_speaker_changes(self) -> None:
        words = (word(" one", 0.2, 0.8), word(" two", 1.0, 1.6), word(" three", 2.1, 2.6))
        segment = Segment(0.0, 3.0, " one two three", words, tokens=(1, 2, 3), avg_logprob=-0.2)
        first, second = assign_speakers([segment], SPOKEN)
        assert (first.text, first.speaker, first.start, first.end) == (
            " one two",
            "SPEAKER_00",
            0.2,
            1.6,
        )
        assert (second.text, second.speaker, second.avg_logprob) == (" three", "SPEAKER_01", -0.2)
        assert [w.speaker for w in (*first.words, *second.words)] == [
            "SPEAKER_00",
            "SPEAKER_00",
            "SPEAKER_01",
        ]

    def test_a_segment_of_one_speaker_stays_as_it_is(self) -> None:
        words = (word(" one", 0.2, 0.8),)
        segment = Segment(0.0, 1.0, " one", words, tokens=(7,))
        (kept,) = assign_speakers([segment], SPOKEN)
        assert (kept.text, kept.tokens, kept.start, kept.speaker) == (
            " one",
            (7,),
            0.0,
            "SPEAKER_00",
        )

    def test_a_segment_without_words_goes_to_whom_it_overlaps_most(self) -> None:
        (kept,) = assign_speakers([Segment(1.9, 3.5, " hm")], SPOKEN)
        assert kept.speaker == "SPEAKER_01"

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0.0, 8.0), min_size=2, max_size=20))
    def test_splitting_loses_and_doubles_no_word(self, edges: list[float]) -> None:
        edges = sorted(edges)
        words = tuple(word(f" w{i}", a, b) for i, (a, b) in enumerate(pairwise(edges)))
        pieces = assign_speakers([Segment(edges[0], edges[-1], "", words)], SPOKEN)
        assert [w.word for piece in pieces for w in piece.words] == [w.word for w in words]
        assert all({w.speaker for w in piece.words} == {piece.speaker} for piece in pieces)
