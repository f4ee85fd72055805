"""Windows' probabilities → labels, stretches and curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.services.emotion import CURVE_POINTS, UNCERTAIN, HeardWindow, Hearing, name

LABELS = ("neutral", "angry", "sad")


def _window(start: float, *probabilities: float, length: float = 2.0) -> HeardWindow:
    return HeardWindow(start, start + length, np.array(probabilities, np.float32))


def test_a_label_is_named_where_it_is_likelier_than_all_others_together() -> None:
    assert name(LABELS, np.array([0.2, 0.6, 0.2])).label == "angry"
    doubt = name(LABELS, np.array([0.2, 0.45, 0.35]))
    assert doubt.label == UNCERTAIN
    assert doubt.scores == {"neutral": 0.2, "angry": 0.45, "sad": 0.35}


def test_a_stretch_is_the_mean_of_its_windows_by_overlap() -> None:
    hearing = Hearing([_window(0, 1, 0, 0), _window(1, 0, 1, 0), _window(9, 0, 0, 1)], LABELS)
    emotion = hearing.over(0.5, 2.0)
    assert emotion is not None
    assert emotion.scores == pytest.approx({"neutral": 0.6, "angry": 0.4, "sad": 0.0})
    assert hearing.over(4.0, 8.0) is None
    assert hearing.over(3.0, 9.0) is None, "touching is no overlap"
    assert Hearing([], LABELS).over(0.0, 1.0) is None


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 4)), min_size=1, max_size=20),
    st.floats(0, 50),
    st.floats(0.01, 20),
)
def test_looking_up_windows_is_no_different_from_asking_all(
    drawn: list[tuple[float, float]], start: float, length: float
) -> None:
    rng = np.random.default_rng(len(drawn))
    windows = [_window(s, *rng.dirichlet([1, 1, 1]), length=n) for s, n in drawn]
    weights = [max(0.0, min(w.end, start + length) - max(w.start, start)) for w in windows]
    mean = Hearing(windows, LABELS).mean(start, start + length)
    assert (mean is None) is (sum(weights) <= 0)
    if mean is not None:
        expected = np.average([w.probabilities for w in windows], axis=0, weights=weights)
        np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_a_curve_has_a_point_for_each_second_of_speech() -> None:
    windows = [_window(float(s), *(p := min(1.0, s / 10), 1 - p, 0)) for s in range(0, 10, 1)]
    curve = Hearing(windows, LABELS).curve("A", [(0.0, 3.0), (6.5, 7.0)], 60.0)
    assert curve.times == (0.5, 1.5, 2.5, 6.75)
    assert list(curve.scores["neutral"]) == sorted(curve.scores["neutral"])
    assert len(curve.scores["sad"]) == 4


def test_four_hours_make_no_longer_a_curve_than_five_minutes() -> None:
    duration_s = 4 * 3600.0
    windows = [_window(float(s), 0.5, 0.25, 0.25) for s in range(0, int(duration_s) - 2, 2)]
    curve = Hearing(windows, LABELS).curve(None, [(0.0, duration_s - 2)], duration_s)
    assert len(curve.times) == CURVE_POINTS
    assert set(curve.scores["neutral"]) == {0.5}
