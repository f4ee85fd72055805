"""Utterances into the ensemble's tensors."""

from __future__ import annotations

import numpy as np
import pytest

from api.services import ensemble, whisper
from api.services.ensemble import EMOTION_AUDIO, SPEAKER_AUDIO, bucket_samples
from api.types import SAMPLE_RATE_HZ, AnalysisOptions


@pytest.mark.parametrize(
    "seconds, bucket_s", [(0.1, 2), (2, 2), (2.01, 4), (7.9, 8), (16, 16), (17, 30), (30, 30)]
)
def test_utterances_come_in_few_lengths(seconds: float, bucket_s: int) -> None:
    """Triton merges only requests of equal shape."""
    samples = np.arange(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    tensors = ensemble.encode(samples, AnalysisOptions())
    assert bucket_samples(len(samples)) == bucket_s * SAMPLE_RATE_HZ
    for name in (EMOTION_AUDIO.name, SPEAKER_AUDIO.name):
        (filled,) = tensors[name]
        assert filled.shape == (bucket_s * SAMPLE_RATE_HZ,)
        np.testing.assert_array_equal(filled[: len(samples)], samples)
        np.testing.assert_array_equal(filled, np.resize(samples, len(filled)))
    (heard,) = tensors[whisper.AUDIO.name]
    np.testing.assert_array_equal(heard, samples)


def test_what_nobody_wants_to_know_costs_little() -> None:
    samples = np.ones(20 * SAMPLE_RATE_HZ, np.float32)
    tensors = ensemble.encode(samples, AnalysisOptions(diarize=False))
    assert tensors[SPEAKER_AUDIO.name].shape == (1, 2 * SAMPLE_RATE_HZ)
    assert tensors[EMOTION_AUDIO.name].shape == (1, 30 * SAMPLE_RATE_HZ)
