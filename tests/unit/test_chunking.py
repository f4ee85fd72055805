"""Chunks: nothing lost, nothing doubled, and times that lead back to where they came from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.assembly import to_source
from api.chunking import MAX_SILENCE_S, chunks
from api.types import SAMPLE_RATE_HZ, Region, Segment, Waveform, Word
from tests.waveforms import all_of

MAX_S = 5.0
"""Short chunks, so that a minute of audio shows all there is to see."""


def recording(seconds: float) -> Waveform:
    """Every sample has its own value, so that it can be found again."""
    count = int(seconds * SAMPLE_RATE_HZ)
    return Waveform(np.linspace(-1.0, 1.0, count, dtype=np.float32))


@st.composite
def speech(draw: st.DrawFn) -> tuple[Waveform, list[Region]]:
    """A recording of up to about a minute with speech of all lengths, pauses of all lengths."""
    regions: list[Region] = []
    position = 0
    for _ in range(draw(st.integers(0, 12))):
        start = position + draw(st.sampled_from([0, 1, 3_000, 15_999, 16_001, 70_000]))
        position = start + draw(
            st.sampled_from([1, 1_600, 20_001, 79_999, 80_000, 80_001, 250_000])
        )
        regions.append(Region(start / SAMPLE_RATE_HZ, position / SAMPLE_RATE_HZ))
    tail = draw(st.sampled_from([0, 1, 8_000]))
    return recording((position + tail) / SAMPLE_RATE_HZ), regions


@given(speech())
@settings(max_examples=150, deadline=None)
def test_every_sample_of_speech_is_in_exactly_one_chunk(
    case: tuple[Waveform, list[Region]],
) -> None:
    waveform, regions = case
    times_used = np.zeros(waveform.num_samples, np.int64)
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        for piece in chunk.pieces:
            times_used[piece.source_start : piece.source_start + piece.length] += 1
    assert times_used.max(initial=0) <= 1
    for region in regions:
        first, last = round(region.start * SAMPLE_RATE_HZ), round(region.end * SAMPLE_RATE_HZ)
        assert (times_used[first:last] == 1).all()


@given(speech())
@settings(max_examples=150, deadline=None)
def test_chunks_are_in_order_and_not_too_long(case: tuple[Waveform, list[Region]]) -> None:
    waveform, regions = case
    previous_end = 0.0
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        assert 0.0 < chunk.duration_s <= MAX_S
        assert len(chunk.samples) == round(chunk.duration_s * SAMPLE_RATE_HZ)
        assert previous_end <= chunk.start < chunk.end <= waveform.duration_s
        previous_end = chunk.end


@given(speech())
@settings(max_examples=100, deadline=None)
def test_a_time_in_a_chunk_leads_to_the_very_sample_in_the_recording(
    case: tuple[Waveform, list[Region]],
) -> None:
    waveform, regions = case
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        samples = chunk.samples
        positions = np.unique(np.linspace(0, len(samples) - 1, 50, dtype=int))
        joints = [piece.chunk_start for piece in chunk.pieces]
        for position in [*positions.tolist(), *joints]:
            source = round(chunk.to_source(position / SAMPLE_RATE_HZ) * SAMPLE_RATE_HZ)
            assert all_of(waveform)[source] == samples[position]


@given(speech(), st.lists(st.floats(-1.0, 40.0), min_size=2, max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_map_is_monotone_and_stays_inside(
    case: tuple[Waveform, list[Region]], times: list[float]
) -> None:
    waveform, regions = case
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        starts = [chunk.to_source(time) for time in sorted(times)]
        ends = [chunk.to_source(time, is_end=True) for time in sorted(times)]
        assert starts == sorted(starts)
        assert ends == sorted(ends)
        assert all(end <= start for start, end in zip(starts, ends, strict=True))
        assert all(chunk.start <= time <= chunk.end for time in starts + ends)


def test_speech_that_fits_stays_together_with_its_silences() -> None:
    waveform = recording(10)
    regions = [Region(1.0, 2.0), Region(2.5, 4.0), Region(4.9, 5.5)]
    [chunk] = chunks(waveform, regions, max_s=MAX_S)
    np.testing.assert_array_equal(chunk.samples, waveform.cut(1.0, 5.5))
    assert chunk.to_source(0.25) == 1.25


def test_a_long_silence_is_shortened_and_the_map_knows() -> None:
    waveform = recording(100)
    [chunk] = chunks(waveform, [Region(1.0, 2.0), Region(90.0, 91.0)], max_s=MAX_S)
    assert chunk.duration_s == 2.0 + MAX_SILENCE_S
    joint = 1.0 + MAX_SILENCE_S / 2
    assert chunk.to_source(joint, is_end=True) == 2.0 + MAX_SILENCE_S / 2
    assert chunk.to_source(joint) == 90.0 - MAX_SILENCE_S / 2
    assert chunk.to_source(joint + 0.5) == 90.0


def test_the_cut_goes_through_the_widest_late_silence() -> None:
    waveform = recording(20)
    regions = [
        Region(0.0, 1.0),
        Region(1.9, 3.0),  # a wide silence before it, but in the chunk's first half
        Region(3.6, 4.0),
        Region(4.2, 4.8),
        Region(4.9, 9.0),
    ]
    first, second, *_ = chunks(waveform, regions, max_s=MAX_S)
    assert (first.start, first.end) == (0.0, 3.0)
    assert second.start == 3.6


def test_longer_pauses_give_the_same_chunks() -> None:
    """Whisper must hear the same audio however long people paused."""
    silence, voice = np.zeros(32_000, np.float32), all_of(recording(2))
    short = Waveform(np.concatenate((voice, silence, voice)))
    long = Waveform(np.concatenate((voice, np.tile(silence, 20), voice)))
    [of_short] = chunks(short, [Region(0, 2), Region(4, 6)])
    [of_long] = chunks(long, [Region(0, 2), Region(42, 44)])
    np.testing.assert_array_equal(of_short.samples, of_long.samples)
    assert of_long.to_source(4.5) == of_short.to_source(4.5) + 38


def test_speech_without_a_pause_is_split_where_it_is_quietest() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 9 * SAMPLE_RATE_HZ).astype(np.float32)
    samples[1 * SAMPLE_RATE_HZ :][:1600] *= 0.001  # quieter, yet too early for a cut
    samples[4 * SAMPLE_RATE_HZ :][:1600] *= 0.01
    first, second = chunks(Waveform(samples), [Region(0.0, 9.0)], max_s=MAX_S)
    assert 4.0 <= first.end <= 4.1
    assert second.start == first.end
    assert second.end == 9.0


def test_hours_of_speech_are_planned_without_copying_them() -> None:
    samples = np.zeros(3600 * SAMPLE_RATE_HZ, np.float32)
    regions = [Region(start, start + 3.0) for start in np.arange(0.0, 3590.0, 3.5)]
    planned = chunks(Waveform(samples), regions)
    assert sum(len(chunk.pieces) for chunk in planned) == len(planned)
    assert all(np.shares_memory(chunk.samples, samples) for chunk in planned)
    # 30 s hold eight regions with seven pauses: no chunk but the last is far from full.
    assert all(chunk.duration_s > 20.0 for chunk in planned[:-1])


def test_no_speech_gives_no_chunk() -> None:
    assert chunks(recording(3), []) == []
    assert chunks(recording(3), [Region(3.0, 4.0)]) == []


@pytest.mark.parametrize(
    "regions", [[Region(1.0, 2.0), Region(1.5, 3.0)], [Region(2.0, 3.0), Region(0.0, 1.0)]]
)
def test_regions_out_of_order_are_refused(regions: list[Region]) -> None:
    with pytest.raises(ValueError, match="order"):
        chunks(recording(3), regions)


def test_chunks_below_a_second_are_refused() -> None:
    with pytest.raises(ValueError, match="second"):
        chunks(recording(3), [], max_s=0.5)


@given(speech(), st.lists(st.floats(0.0, 6.0), min_size=2, max_size=24))
@settings(max_examples=150, deadline=None)
def test_words_stay_in_order_and_out_of_the_silence_that_was_taken_out(
    case: tuple[Waveform, list[Region]], bounds: list[float]
) -> None:
    waveform, regions = case
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        times = np.sort(np.minimum(bounds, chunk.duration_s)).tolist()
        words = [chunk.word_to_source(a, b) for a, b in pairwise(times)]
        moments = [moment for word in words for moment in word]
        assert moments == sorted(moments)
        kept = [(p.source_start, p.source_start + p.length) for p in chunk.pieces]
        for start, end in np.array(words) * SAMPLE_RATE_HZ:
            assert any(low - 1e-3 <= start and end <= high + 1e-3 for low, high in kept)
            if any(low < end and start < high for low, high in chunk.speech):
                for moment in (start, end):
                    assert any(low - 1e-3 <= moment <= high + 1e-3 for low, high in chunk.speech)


def test_a_word_over_a_long_pause_is_placed_on_one_side_of_it() -> None:
    """A word of 88 s in the answer: attention had crossed a silence that wasn't in the chunk."""
    [chunk] = chunks(recording(100), [Region(1.0, 2.0), Region(90.0, 91.0)], max_s=MAX_S)
    assert chunk.word_to_source(0.5, 1.6) == (1.5, 2.0)
    assert chunk.word_to_source(1.4, 2.5) == (90.0, 90.5)
    assert chunk.word_to_source(1.1, 1.3) == pytest.approx((2.1, 2.3)), "in the silence itself"


@given(speech(), st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_what_comes_later_changes_no_chunk_but_the_last(
    case: tuple[Waveform, list[Region]], count: int
) -> None:
    """A recording that ends earlier is cut alike up to there: only the seam may change."""
    waveform, regions = case
    whole = chunks(waveform, regions, max_s=MAX_S)
    start = chunks(waveform, regions[:count], max_s=MAX_S)
    assert [chunk.pieces for chunk in start[:-1]] == [c.pieces for c in whole[: len(start)]][:-1]


@given(speech(), st.lists(st.floats(0.0, 6.0), min_size=4, max_size=24))
@settings(max_examples=100, deadline=None)
def test_segments_follow_their_words_into_the_recording(
    case: tuple[Waveform, list[Region]], bounds: list[float]
) -> None:
    waveform, regions = case
    for chunk in chunks(waveform, regions, max_s=MAX_S):
        times = np.sort(np.minimum(bounds, chunk.duration_s)).tolist()
        words = [Word(" word", a, b, 0.9) for a, b in pairwise(times)]
        halves = [words[: len(words) // 2], words[len(words) // 2 :]]
        segments = [Segment(w[0].start, w[-1].end, "", words=tuple(w)) for w in halves if w]
        previous = chunk.start
        for segment in to_source(segments, chunk):
            assert previous <= segment.start <= segment.end <= chunk.end
            assert segment.words[0].start == segment.start
            assert segment.words[-1].end == segment.end
            previous = segment.end
