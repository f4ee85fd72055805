"""Whisper, speech to text: chunks of speech into tensors, its transcript into segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from api.errors import InferenceError
from api.tensors import ModelSpec, Tensors, TensorSpec
from api.types import AnalysisOptions, Segment, TokenLogprob, Word

AUDIO = TensorSpec("AUDIO", "FP32", (-1,))
OPTIONS = TensorSpec("OPTIONS", "STRING", (1,))
TRANSCRIPT = TensorSpec("TRANSCRIPT", "STRING", (1,))
SPEC = ModelSpec("whisper", inputs=(AUDIO, OPTIONS), outputs=(TRANSCRIPT,))

MAX_CHUNK_S = 30.0
"""Whisper's encoder always sees 30 s (Radford et al. 2022); a longer chunk is refused."""


@dataclass(frozen=True)
class Transcript:
    """What Whisper made of one chunk; times count from the chunk's own start."""

    language: str
    language_probability: float
    languages: dict[str, float]
    """Probability of each language that may well be spoken; 1 for one that the caller named."""
    no_speech_prob: float
    segments: tuple[Segment, ...]


def encode(samples: NDArray[np.float32], options: AnalysisOptions) -> Tensors:
    """One chunk, shape (n,), n ≤ 480,000, as a batch of one."""
    return {
        AUDIO.name: samples[None, :],
        OPTIONS.name: np.array([[orjson.dumps(wanted(options))]], dtype=np.object_),
    }


def wanted(options: AnalysisOptions) -> dict[str, Any]:
    """What the model is told beside the audio: all of the options that its answer depends on."""
    told: dict[str, Any] = {
        "language": options.language,
        "task": options.task,
        "word_timestamps": options.word_timestamps,
    }
    if options.prompt:
        told["prompt"] = options.prompt
    if options.temperature:
        told["temperatures"] = [options.temperature]
    if options.beam_size:
        told["beam_size"] = options.beam_size
    if options.logprobs:
        told["logprobs"] = True
    return told


def decode(tensors: Tensors) -> Transcript:
    """The transcript of a batch of one.

    Raises:
        InferenceError: the model's answer isn't the agreed JSON.
    """
    try:
        answer = orjson.loads(tensors[TRANSCRIPT.name].reshape(-1)[0])
        no_speech_prob = float(answer["no_speech_prob"])
        return Transcript(
            language=answer["language"],
            language_probability=float(answer["language_probability"]),
            languages={code: float(p) for code, p in answer["languages"].items()},
            no_speech_prob=no_speech_prob,
            segments=tuple(_segment(s, no_speech_prob) for s in answer["segments"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InferenceError("Whisper's answer can't be read", model=SPEC.name) from error


def _segment(answer: dict[str, Any], no_speech_prob: float) -> Segment:
    words = answer.get("words") or []
    return Segment(
        start=float(answer["start"]),
        end=float(answer["end"]),
        text=str(answer["text"]),
        tokens=tuple(answer["tokens"]),
        words=tuple(
            Word(w["word"], float(w["start"]), float(w["end"]), float(w["probability"]))
            for w in words
        ),
        no_speech_prob=no_speech_prob,
        avg_logprob=float(answer["avg_logprob"]),
        compression_ratio=float(answer["compression_ratio"]),
        temperature=float(answer["temperature"]),
        logprobs=tuple(
            TokenLogprob(t["token"], tuple(t["bytes"]), float(t["logprob"]))
            for t in answer.get("logprobs", ())
        ),
    )
