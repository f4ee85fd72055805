"""The audit flags what a reader should be careful about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.quality import MAX_MISSED, MISSED_S, TOLERANCE_S, Heard, audit
from api.sound import Sound, measure
from api.types import Quality, Region, Segment, Word

RNG = np.random.default_rng(5)


def _speech(*regions: Region, noise: float = 0.001, gain: float = 0.1) -> Sound:
    """Something loud in the regions of a minute, something soft all along."""
    samples = noise * RNG.standard_normal(60 * 16_000)
    for region in regions:
        loud = samples[round(region.start * 16_000) : round(region.end * 16_000)]
        loud += gain * RNG.standard_normal(len(loud))
    return measure([np.clip(samples, -1, 1).astype(np.float32)])


def _segment(start: float, end: float, **measures: float) -> Segment:
    word = Word(" one", start, end, 0.9)
    return Segment(start, end, " one", words=(word,), **measures)  # type: ignore[arg-type]


def _audit(
    segments: list[Segment], regions: list[Region], wordless: tuple[Region, ...] = ()
) -> Quality:
    return audit(segments, Heard(regions, wordless, _speech(*regions)))


def test_words_over_all_speech_raise_no_flag() -> None:
    found = _audit([_segment(1.0, 3.0)], [Region(1.0, 3.0)])
    assert (found.speech_s, found.uncovered_speech_s, found.flags) == (2.0, 0.0, ())
    assert (found.missed, found.repetition, found.clipped_share) == ((), 0.0, 0.0)


def test_silence_is_said() -> None:
    found = _audit([], [])
    assert (found.flags, found.snr_db) == (("no_speech",), None)


def test_speech_without_words_is_flagged_however_small_its_share() -> None:
    regions = [Region(0.0, 40.0), Region(50.0, 51.5)]
    found = _audit([_segment(0.0, 40.0)], regions)
    assert found.uncovered_speech_s == pytest.approx(1.5)
    assert found.missed == (Region(50.0, 51.5),)
    assert found.flags == ("speech_without_words",)


def test_a_short_sound_without_words_is_no_alarm_unless_its_chunk_came_back_empty() -> None:
    """Coughs and laughter are taken for speech, too; but a chunk is never passed over."""
    regions = [Region(0.0, 40.0), Region(50.0, 50.5)]
    assert _audit([_segment(0.0, 40.0)], regions).flags == ()
    found = _audit([_segment(0.0, 40.0)], regions, wordless=(regions[1],))
    assert (found.flags, found.missed) == (("speech_without_words",), (regions[1],))


def test_a_hole_within_a_region_is_found() -> None:
    words = (Word(" one", 0.0, 1.0, 0.9), Word(" two", 4.0, 5.0, 0.9))
    found = _audit([Segment(0.0, 5.0, " one two", words=words)], [Region(0.0, 5.0)])
    assert found.missed == (Region(1.0 + TOLERANCE_S, 4.0 - TOLERANCE_S),)
    without_times = Segment(0.0, 5.0, " one two")
    assert _audit([without_times], [Region(0.0, 5.0)]).missed == ()


def test_only_the_longest_stretches_are_named() -> None:
    regions = [Region(3.0 * n, 3.0 * n + 1.0 + n / 1000) for n in range(MAX_MISSED + 20)]
    found = audit([], Heard(regions, (), _speech()))
    assert len(found.missed) == MAX_MISSED
    assert list(found.missed) == regions[20:]


def test_words_in_silence_are_flagged() -> None:
    found = _audit([_segment(0.0, 2.0), _segment(8.0, 9.0)], [Region(0.0, 2.0)])
    assert found.words_outside_speech == 1
    assert "words_outside_speech" in found.flags


def test_doubt_and_repetition_are_flagged() -> None:
    found = _audit([_segment(0, 1, avg_logprob=-1.5, compression_ratio=3.0)], [Region(0, 1)])
    assert set(found.flags) == {"low_confidence", "repetition"}
    looping = Segment(0.0, 1.0, " so " + "thank you " * 6)
    found = _audit([looping], [Region(0, 1)])
    assert found.flags == ("repetition",)
    assert found.repetition == pytest.approx(12 / 13)


def test_noise_and_clipping_are_flagged() -> None:
    speech, segments = Region(10.0, 40.0), [_segment(10.0, 40.0)]
    noisy = audit(segments, Heard([speech], (), _speech(speech, noise=0.05)))
    assert noisy.snr_db == pytest.approx(6.0, abs=0.5)
    assert noisy.flags == ("low_snr",)
    loud = audit(segments, Heard([speech], (), _speech(speech, gain=1.5)))
    assert loud.clipped_share > 0.01
    assert loud.flags == ("clipping",)


_SPANS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), max_size=12)


@given(_SPANS, _SPANS)
def test_coverage_is_what_counting_frames_gives(
    speech: list[tuple[int, int]], said: list[tuple[int, int]]
) -> None:
    """The audit passes over both once; a counter looks at every frame of 50 ms."""
    regions, words = _spans(speech), _spans(said)
    found = audit([_segment(a / 20, b / 20) for a, b in words], _heard(regions))
    slack = round(TOLERANCE_S * 20)
    covered = {f for a, b in words for f in range(a - slack, b + slack)}
    left = [[f for f in range(a, b) if f not in covered] for a, b in regions]
    assert found.uncovered_speech_s == pytest.approx(sum(map(len, left)) / 20)
    outside = [
        (a, b) for a, b in words if not any(b + slack >= c and a - slack <= d for c, d in regions)
    ]
    assert found.words_outside_speech == len(outside)
    assert all(r.duration_s >= MISSED_S for r in found.missed)


def _spans(drawn: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Gaps and lengths as spans, in order and apart."""
    spans, at = [], 0
    for gap, length in drawn:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    return spans


def _heard(spans: list[tuple[int, int]]) -> Heard:
    regions = [Region(a / 20, b / 20) for a, b in spans]
    return Heard(regions, (), measure([np.zeros(16_000, np.float32)]))
