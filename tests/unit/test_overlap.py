"""Where two speak at once, and whose turns lie there."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import api.overlap
from api.networks import ASSETS
from api.overlap import OverlapDetector, OverlapSettings, overlaps
from api.services.overlapping import fewest_speakers, overlapping, windows_alone
from api.services.voice_track import VoiceTrack
from api.services.windows import Window
from api.spectrum import FRAME_SAMPLES, power_spectrum
from api.types import SAMPLE_RATE_HZ, Region, Turn, Waveform

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def detector() -> OverlapDetector:
    return OverlapDetector()


class TestStretches:
    SETTINGS = OverlapSettings(onset=0.7, offset=0.5, min_overlap_s=0.1)

    def test_hysteresis_and_shortest(self) -> None:
        heard = np.repeat(
            [0.1, 0.6, 0.8, 0.6, 0.4, 0.6, 0.4, 0.9, 0.0], [10, 5, 5, 5, 5, 20, 5, 4, 5]
        ).astype(np.float32)
        assert overlaps(heard, self.SETTINGS) == [Region(10 * FRAME_S, 25 * FRAME_S)]

    def test_at_both_ends(self) -> None:
        assert overlaps(np.ones(10, np.float32), self.SETTINGS) == [Region(0, 10 * FRAME_S)]
        assert overlaps(np.zeros(10, np.float32), self.SETTINGS) == []
        assert overlaps(np.zeros(0, np.float32), self.SETTINGS) == []


class TestDetector:
    def test_blocks_answer_as_the_whole(self, detector: OverlapDetector) -> None:
        """A context that is too short would put seams into every long recording."""
        rng = np.random.default_rng(0)
        loudness = np.repeat(rng.uniform(0, 0.1, 140), SAMPLE_RATE_HZ // 2)
        samples = (rng.standard_normal(len(loudness)) * loudness).astype(np.float32)
        waveform = Waveform(samples)
        regions = [Region(0, waveform.duration_s)]
        whole = detector._session.run(
            ["overlap"], {"power": power_spectrum(samples * api.overlap._gain(waveform, regions))}
        )[0]
        assert len(whole) > 2 * api.overlap._BLOCK_FRAMES
        np.testing.assert_allclose(detector.probabilities(waveform, regions), whole, atol=1e-4)

    def test_the_level_of_a_recording_does_not_matter(self, detector: OverlapDetector) -> None:
        samples = np.random.default_rng(1).standard_normal(80_000).astype(np.float32) * 0.1
        regions = [Region(0, 5)]
        loud, soft = (
            detector.probabilities(Waveform(samples * np.float32(gain)), regions)
            for gain in (1.0, 0.02)
        )
        np.testing.assert_allclose(loud, soft, atol=1e-3)

    def test_where_nobody_speaks_nothing_is_computed(self, detector: OverlapDetector) -> None:
        samples = np.random.default_rng(2).standard_normal(95 * SAMPLE_RATE_HZ).astype(np.float32)
        told: list[float] = []
        heard = detector.probabilities(
            Waveform(samples), [Region(31, 33)], lambda _, done: told.append(done)
        )
        assert len(heard) == 95 / FRAME_S
        assert heard[1500:3000].all()
        assert not heard[:1500].any() and not heard[3000:].any()
        assert told[-1] == 1.0
        assert told == sorted(told)

    @pytest.mark.parametrize("num_samples", [0, 1, 319, 321, 1500 * FRAME_SAMPLES + 7])
    def test_any_length(self, detector: OverlapDetector, num_samples: int) -> None:
        waveform = Waveform(np.full(num_samples, 0.1, np.float32))
        regions = [Region(0, waveform.duration_s)] if num_samples else []
        heard = detector.probabilities(waveform, regions)
        assert len(heard) == -(-num_samples // FRAME_SAMPLES)
        assert np.isfinite(heard).all()
        assert detector.detect(waveform, []) == []

    def test_silence_does_not_overlap(self, detector: OverlapDetector) -> None:
        silence = Waveform(np.zeros(10 * SAMPLE_RATE_HZ, np.float32))
        assert detector.detect(silence, [Region(0, 10)]) == []

    def test_the_network_is_the_measured_one(self) -> None:
        """The figures of docs/speakers.md and every default hold for the recipe's network."""
        content = (ASSETS / "overlap_16k.onnx").read_bytes()
        assert len(content) < 2**20
        digest = hashlib.sha256(content).hexdigest()
        assert digest == "e731cfbb7a20df0d3d19db52fa3f1109b1cceda6a56142d7d9d296cde994fb8f"

    def test_its_card_names_sources_and_licence(self) -> None:
        card = (ASSETS / "overlap_16k.md").read_text(encoding="utf-8")
        for source in ("free-spoken-digit-dataset", "CC BY-SA 4.0", "Burkhardt", "espeak-ng"):
            assert source in card


def track_of(*heard: tuple[float, ...]) -> VoiceTrack:
    """A track with these cosines for each second, one per speaker."""
    silence = Waveform(np.zeros(16_000 * len(heard), np.float32))
    cut = [Window(float(n), n + 1.0, 16_000, silence) for n in range(len(heard))]
    cosines = np.repeat(np.array(heard), 3, axis=0)
    moments_s = np.array([w.start_s + d for w in cut for d in (0.0, 0.5, 1.0)])
    names = tuple(f"SPEAKER_{label:02d}" for label in range(len(heard[0])))
    voices = np.eye(len(names))
    return VoiceTrack(names, moments_s, cosines, voices, np.ones(len(names)))


A, B, C = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"


def spans(found: list[Turn]) -> list[tuple[float, float, str]]:
    return [(turn.start, turn.end, turn.speaker) for turn in found]


class TestClustering:
    """What two say at once made one speaker of both."""

    CUT = tuple(
        Window(n * 0.75, n * 0.75 + 1.5, 24_000, Waveform(np.zeros(96_000, np.float32)))
        for n in range(5)
    )

    def test_windows_in_which_two_are_heard_are_left_out(self) -> None:
        assert windows_alone(self.CUT, [], 1).all()
        # windows reach from 0, 0.75, 1.5, … for 1.5 s: 0.3 s of the second, all of the next two
        assert windows_alone(self.CUT, [Region(1.95, 2.95)], 1).tolist() == [True] * 2 + [
            False,
            False,
            True,
        ]
        # two short ones add up in the last window, and not in the one before it
        heard = [Region(3.5, 3.7), Region(3.9, 4.1)]
        assert windows_alone(self.CUT, heard, 1).tolist() == [True] * 4 + [False]

    def test_where_too_few_are_left_all_are_used(self) -> None:
        heard = [Region(0.0, 2.5)]
        assert windows_alone(self.CUT, heard, 1).sum() == 5

    def test_two_must_be_there_where_two_are_heard_for_long_enough(self) -> None:
        talk = [Region(0, 30), Region(40, 50)]
        assert fewest_speakers([Region(1, 1.9), Region(45, 46.2)], talk) == 2
        assert fewest_speakers([Region(1, 2.9)], talk) == 1, "too short"
        assert fewest_speakers([Region(1, 3.5)], [Region(0, 100)]) == 1, "a room's echo"
        assert fewest_speakers([], talk) == 1

    def test_a_track_knows_voices_of_the_clustered_and_hears_all(self) -> None:
        embeddings = np.eye(3, dtype=np.float32)[[0, 0, 2, 1, 1]]
        clustered = np.array([True, True, False, True, True])
        labels = np.array([0, 0, 1, 1])
        track = VoiceTrack.of(self.CUT, embeddings, labels, clustered)
        assert track.windows.tolist() == [2.0, 2.0]
        np.testing.assert_array_equal(track.voices, 2 * np.eye(3)[:2])
        assert track.at(np.array([self.CUT[2].centre_s])).tolist() == [[0.0, 0.0]]
        with pytest.raises(ValueError, match="4 labels"):
            VoiceTrack.of(self.CUT, embeddings, labels)


class TestTurns:
    TRACK = track_of((0.9, 0.5, 0.1), (0.6, 0.8, 0.1), (0.1, 0.9, 0.3), (0.1, 0.3, 0.9))
    EXCLUSIVE = (Turn(0, 1.5, A, confidence=0.9), Turn(1.5, 4.0, B, confidence=0.8))

    def test_nothing_changes_where_nothing_overlaps(self) -> None:
        assert overlapping(self.EXCLUSIVE, self.TRACK, []) == list(self.EXCLUSIVE)
        assert overlapping(self.EXCLUSIVE, self.TRACK, [Region(5, 6)]) == list(self.EXCLUSIVE)

    def test_around_a_change_both_speak(self) -> None:
        found = overlapping(self.EXCLUSIVE, self.TRACK, [Region(1.2, 1.8)])
        assert spans(found) == [(0, 1.8, A), (1.2, 4.0, B)]
        assert found[0].confidence == self.TRACK.confidence(A, 0, 1.8)

    def test_within_a_turn_the_second_likeliest_speaks(self) -> None:
        found = overlapping(self.EXCLUSIVE, self.TRACK, [Region(3.0, 3.5)])
        assert spans(found) == [(0, 1.5, A), (1.5, 4.0, B), (3.0, 3.5, C)]
        assert found[1] is self.EXCLUSIVE[1], "turns that nothing was added to stay as they were"

    def test_a_breath_before_the_own_turn_does_not_part_it(self) -> None:
        late = (Turn(0, 1.5, A, confidence=0.9), Turn(1.7, 4.0, B, confidence=0.8))
        found = overlapping(late, self.TRACK, [Region(1.2, 1.5)])
        assert spans(found) == [(0, 1.5, A), (1.2, 4.0, B)]

    def test_pauses_and_single_speakers_get_nothing(self) -> None:
        assert overlapping([], self.TRACK, [Region(0, 1)]) == []
        alone = [Turn(0, 1, A, confidence=1.0)]
        assert overlapping(alone, track_of((0.9,)), [Region(0, 1)]) == alone

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0.05, 1.5), min_size=2, max_size=8), st.integers(0, 1000))
    def test_everybody_keeps_their_exclusive_turns(self, steps: list[float], seed: int) -> None:
        rng = np.random.default_rng(seed)
        track = track_of(*rng.random((10, 3)).tolist())
        borders = [0.0, *np.sort(rng.uniform(0, 10, 6)).tolist(), 10.0]
        speakers = [track.names[k] for k in rng.integers(3, size=7)]
        exclusive = [
            Turn(a, b, who, confidence=0.5)
            for (a, b), who in zip(pairwise(borders), speakers, strict=True)
        ]
        edges = np.cumsum(steps).tolist()
        heard = [Region(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
        found = overlapping(exclusive, track, heard)
        assert [t.start for t in found] == sorted(t.start for t in found)
        for turn in exclusive:
            assert any(
                t.speaker == turn.speaker and t.start <= turn.start and turn.end <= t.end
                for t in found
            )
        moments = [r.start + f * r.duration_s for r in heard for f in (0.25, 0.75)]
        for moment in (m for m in moments if m < 10):
            holding = {t.speaker for t in found if t.start <= moment < t.end}
            assert len(holding) >= 2
