"""The ensemble `voice_analytics`: text, emotion and voice of one live utterance in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.services import emotion, speaker_embedding, whisper
from api.services.whisper import Transcript
from api.services.windows import Window, fill
from api.tensors import ModelSpec, Tensors, TensorSpec
from api.types import SAMPLE_RATE_HZ, AnalysisOptions, Waveform

EMOTION_AUDIO = TensorSpec("EMOTION_AUDIO", "FP32", (-1,))
SPEAKER_AUDIO = TensorSpec("SPEAKER_AUDIO", "FP32", (-1,))
SPEC = ModelSpec(
    "voice_analytics",
    inputs=(whisper.AUDIO, whisper.OPTIONS, EMOTION_AUDIO, SPEAKER_AUDIO),
    outputs=(whisper.TRANSCRIPT, emotion.LOGITS, speaker_embedding.EMBEDDING),
)

BUCKETS_S = (2, 4, 8, 16, 30)
"""Lengths that the emotion and speaker models hear. Triton merges only requests of equal shape, so
utterances of many streams share executions when they come in few lengths; each is repeated up to
the next bucket, which keeps its statistics and at most doubles the work."""


@dataclass(frozen=True)
class HeardUtterance:
    """What the three models made of one utterance; times count from its own start.

    Attributes:
        emotions: probability of each label, float32, shape (num_labels,), summing to 1.
        embedding: the voice as the model gives it (not normalised), float32, shape (dim,).
    """

    transcript: Transcript
    emotions: NDArray[np.float32]
    embedding: NDArray[np.float32]


def encode(samples: NDArray[np.float32], options: AnalysisOptions) -> Tensors:
    """One utterance, float32, shape (n,), 1 ≤ n ≤ 480,000, as a batch of one.

    What the caller doesn't want to know (speakers, emotions) is asked of two seconds only: the
    ensemble always runs all of its steps.
    """
    filled = fill(samples, bucket_samples(len(samples)))[None, :]
    least = filled[:, : BUCKETS_S[0] * SAMPLE_RATE_HZ]
    return {
        **whisper.encode(samples, options),
        EMOTION_AUDIO.name: filled if options.emotions else least,
        SPEAKER_AUDIO.name: filled if options.diarize else least,
    }


def bucket_samples(num_samples: int) -> int:
    """Length of the smallest bucket that holds so many samples; the largest when none does."""
    lengths = [seconds * SAMPLE_RATE_HZ for seconds in BUCKETS_S]
    return next((length for length in lengths if length >= num_samples), lengths[-1])


def decode(tensors: Tensors, num_labels: int) -> HeardUtterance:
    """The answer to a batch of one.

    Raises:
        InferenceError: a part of the answer can't be read.
    """
    whole = Window(0.0, 0.0, 0, Waveform(np.zeros(0, dtype=np.float32)))
    (heard,) = emotion.decode(tensors, [whole], num_labels)
    (embedding,) = speaker_embedding.decode(tensors, [whole])
    return HeardUtterance(whisper.decode(tensors), heard.probabilities, embedding)
