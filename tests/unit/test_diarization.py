"""Windows and turns, on made-up voices and on arbitrary input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.services.diarization import (
    diarize,
    names_by_appearance,
    renamed,
    turns,
    windows,
)
from api.services.voice_track import VoiceTrack
from api.services.windows import MERGE_GAP_S, Window, merge
from api.types import SAMPLE_RATE_HZ, Region, Waveform


class TestWindows:
    def test_windows_overlap_by_half_or_more_and_end_flush(self) -> None:
        samples = np.arange(6 * SAMPLE_RATE_HZ, dtype=np.float32)
        cut = windows(Waveform(samples), [Region(1.0, 4.25)])
        assert [(w.start_s, w.end_s) for w in cut] == [
            (1.0, 2.5),
            pytest.approx((1 + 1.75 / 3, 2.5 + 1.75 / 3)),
            pytest.approx((1 + 3.5 / 3, 2.5 + 3.5 / 3)),
            (2.75, 4.25),
        ]
        for window in cut:
            assert np.shares_memory(window.samples, samples)
            assert window.samples[0] == pytest.approx(window.start_s * SAMPLE_RATE_HZ, abs=1)

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

    def test_no_speech_no_windows(self) -> None:
        assert windows(Waveform(np.zeros(SAMPLE_RATE_HZ, np.float32)), []) == []

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


WINDOW_SAMPLES = 24_000


def regions_from(steps: list[float]) -> list[Region]:
    edges = np.cumsum(steps).tolist()
    return [Region(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]


def track(cut: Sequence[Window], labels: Sequence[int]) -> VoiceTrack:
    """Everybody is told from everybody else without a doubt but the softmax's."""
    return VoiceTrack.of(cut, np.eye(8, dtype=np.float32)[list(labels)], np.array(labels))


class TestTurns:
    def test_a_change_of_speaker_is_drawn_between_the_windows(self) -> None:
        region = Region(0.5, 8.0)
        cut = windows(Waveform(np.zeros(9 * SAMPLE_RATE_HZ, np.float32)), [region])
        found = turns(cut, track(cut, [0] * 5 + [1] * 4), [region], [region])
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01"]
        assert found[0].start == 0.5
        assert found[0].end == found[1].start == pytest.approx(4.625, abs=0.02)
        assert found[1].end == pytest.approx(8.0)

    def test_speakers_are_named_in_the_order_of_speech(self) -> None:
        regions = [Region(0, 2), Region(3, 5), Region(6, 8)]
        cut = windows(Waveform(np.zeros(8 * SAMPLE_RATE_HZ, np.float32)), regions)
        heard = track(cut, [2, 2, 1, 1, 2, 2])
        drawn = turns(cut, heard, regions, regions)
        names = names_by_appearance(drawn, heard, {})
        found, named = renamed(drawn, names), heard.renamed(names)
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00"]
        assert named.names == ("SPEAKER_02", "SPEAKER_01", "SPEAKER_00")
        names = names_by_appearance(drawn, heard, {"SPEAKER_02": "Ann"})
        found, named = renamed(drawn, names), heard.renamed(names)
        assert [turn.speaker for turn in found] == ["Ann", "SPEAKER_01", "Ann"]
        assert all(turn.confidence and turn.confidence > 0.9 for turn in found)
        assert named.confidence("Ann", 6, 8) == found[2].confidence

    def test_a_blip_between_two_windows_is_no_turn(self) -> None:
        """Interpolating between two speakers can brush a third one for a few frames."""
        region = Region(0.0, 3.0)
        silence = Waveform(np.zeros(48_000, np.float32))
        cut = [Window(a, a + 1.5, WINDOW_SAMPLES, silence) for a in (0.0, 0.75, 1.5)]
        near_both = np.array([[1, 0, 0.9], [0, 0, 1], [0, 1, 0.9]], dtype=np.float32)
        found = turns(cut, VoiceTrack.of(cut, near_both, np.array([0, 2, 1])), [region], [region])
        assert all(turn.duration_s >= 0.5 for turn in found)

    def test_a_border_moves_to_the_pause_beside_it(self) -> None:
        samples = np.random.default_rng(0).standard_normal(8 * SAMPLE_RATE_HZ).astype(np.float32)
        pause_s = 4.6
        samples[int(4.5 * SAMPLE_RATE_HZ) : int(4.7 * SAMPLE_RATE_HZ)] *= 0.01
        cut = windows(Waveform(samples), [Region(0.0, 8.0)])
        found = turns(cut, track(cut, [0] * 6 + [1] * 4), [Region(0.0, 8.0)], [Region(0.0, 8.0)])
        assert len(found) == 2
        assert abs(found[0].end - pause_s) < 0.1

    def test_windows_and_labels_must_match(self) -> None:
        cut = windows(Waveform(np.zeros(3 * SAMPLE_RATE_HZ, np.float32)), [Region(0, 3)])
        with pytest.raises(ValueError, match="3 windows, 2 embeddings"):
            track(cut, [0, 1])

    def test_no_speech_no_turns(self) -> None:
        assert diarize(np.zeros(8000, np.float32), [], lambda windows: windows) == []

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
        found = turns(cut, VoiceTrack.of(cut, embeddings, labels), regions, regions)
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(found))
        blocks = merge(regions, MERGE_GAP_S)
        assert all(
            any(b.start - 1e-9 <= turn.start < turn.end <= b.end + 1e-9 for b in blocks)
            for turn in found
        )
        spoken = sum(turn.duration_s for turn in found)
        covered = sum(
            max(0.0, min(turn.end, region.end) - max(turn.start, region.start))
            for turn in found
            for region in regions
        )
        assert covered == pytest.approx(sum(region.duration_s for region in regions))
        assert covered - 1e-9 <= spoken <= sum(block.duration_s for block in blocks) + 1e-9

    def test_the_room_around_speech_is_no_talk_but_a_breath_within_a_turn_is(self) -> None:
        """Padding made every turn 0.16 s too long, and every change of speaker an overlap less."""
        regions = [Region(0.9, 4.0), Region(4.1, 8.06)]
        talk = [Region(1.0, 2.0), Region(2.25, 3.94), Region(4.2, 5.5), Region(5.9, 8.0)]
        cut = windows(Waveform(np.zeros(9 * SAMPLE_RATE_HZ, np.float32)), regions)
        labels = [0 if window.centre_s < 4 else 1 for window in cut]
        found = turns(cut, track(cut, labels), regions, talk)
        assert [(turn.start, turn.end) for turn in found] == [(1.0, 3.94), (4.2, 5.5), (5.9, 8.0)]
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_01"]


class TestDiarize:
    def test_from_samples_to_turns(self) -> None:
        """The "voice" is the level, which the model hears; the border lies in the pause."""
        rate = SAMPLE_RATE_HZ
        samples = np.repeat([1.0, 0.0, 2.0], [4 * rate, rate // 5, 5 * rate]).astype(np.float32)
        regions = [Region(0.0, 4.0), Region(4.2, 9.2)]

        def embed(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            voices = np.median(batch, axis=1).astype(int)
            return np.eye(3)[voices].astype(np.float32)

        found = diarize(samples, regions, embed)
        assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01"]
        assert (found[0].start, found[0].end) == (0.0, 4.0)
        assert (found[1].start, found[1].end) == (4.2, 9.2)
        assert diarize(samples, [], embed) == []
