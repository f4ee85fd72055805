"""Windows cover all speech with one length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from api.services.windows import cover, fill, merge
from api.types import SAMPLE_RATE_HZ, Region, Waveform


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.05, 6.0)), min_size=1, max_size=6),
    st.sampled_from([1.5, 2.0, 4.0]),
)
def test_every_moment_of_speech_is_in_a_window(drawn: list[tuple[float, float]], w: float) -> None:
    regions, at = [], 0.0
    for gap, length in drawn:
        regions.append(Region(at + gap, at + gap + length))
        at += gap + length
    waveform = Waveform(np.ones(round(at * SAMPLE_RATE_HZ) + 1, dtype=np.float32))
    windows = cover(waveform, regions, window_s=w, hop_s=w / 2)
    assert all(len(window.samples) == round(w * SAMPLE_RATE_HZ) for window in windows)
    for region in regions:
        for moment in np.linspace(region.start, region.end, 9):
            assert any(v.start_s - 1e-6 <= moment <= v.end_s + 1e-6 for v in windows)


def test_a_short_region_is_repeated_and_not_padded() -> None:
    waveform = Waveform(np.arange(SAMPLE_RATE_HZ, dtype=np.float32))
    (window,) = cover(waveform, [Region(0.25, 0.75)], window_s=2.0, hop_s=1.0)
    assert (window.start_s, window.end_s) == (0.25, 0.75)
    assert np.array_equal(window.samples[:8000], window.samples[8000:16000])


def test_fill_of_nothing_is_silence() -> None:
    assert not fill(np.zeros(0, dtype=np.float32), 10).any()


def test_merge_joins_over_short_pauses_only() -> None:
    regions = [Region(0, 1), Region(1.2, 2), Region(3, 4)]
    assert merge(regions, 0.3) == [Region(0, 2), Region(3, 4)]


def test_a_region_longer_than_a_window_by_rounding_alone_is_one_window() -> None:
    """It was divided into no steps: an analysis failed with a division by zero."""
    region = Region(0.1, 0.1 + 1.5 + 1e-9)
    (window,) = cover(Waveform(np.zeros(32_000, np.float32)), [region], window_s=1.5, hop_s=0.75)
    assert (window.start_s, len(window.samples)) == (0.1, 24_000)
