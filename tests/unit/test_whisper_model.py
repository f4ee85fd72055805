"""What Triton calls, without Triton: who gets which answer."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.whisper_runtime import RELEASE, search, tokenization, transcript


@dataclass
class Answer:
    """An InferenceResponse: what it was made with."""

    output_tensors: Any = None
    error: Any = None


@dataclass(frozen=True)
class Error:
    """A TritonError."""

    message: str
    code: str

    INTERNAL: ClassVar = "internal"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    utils = ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        InferenceResponse=Answer, TritonError=Error, Tensor=lambda name, rows: rows
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    yield importlib.import_module("model")
    del sys.modules["model"]


def heard(no_speech_prob: float) -> transcript.Transcript:
    hypothesis = search.Hypothesis((), (), 0.0, no_speech_prob, 0.0)
    return transcript.Transcript("en", {"en": 1.0}, hypothesis, (), 1.0)


def test_a_clip_whose_numbers_are_none_fails_alone(module: Any) -> None:
    outcomes: list[str] = []
    model = module.TritonPythonModel()
    model._transcriber = SimpleNamespace(
        transcribe=lambda clips, _: [heard(p) for p in (0.1, np.nan, 0.2)],
        tokenizer=tokenization.WhisperTokenizer(RELEASE / "tokenizer.json", 50257),
    )
    model._counters = SimpleNamespace(count=lambda outcome, audio_s=0: outcomes.append(outcome))
    clip = SimpleNamespace(duration_s=1.0)
    request = SimpleNamespace(is_cancelled=lambda: False)
    accepted = [module._Accepted(place, request, [clip]) for place in range(3)]
    responses: list[Any] = [None] * 3

    model._answer(accepted, responses)

    assert outcomes == ["transcribed", "failed", "transcribed"]
    assert responses[1].error == Error(
        "Out of range float values are not JSON compliant", Error.INTERNAL
    )
    for place, probability in ((0, 0.1), (2, 0.2)):
        (rows,) = responses[place].output_tensors
        assert json.loads(rows[0, 0])["no_speech_prob"] == probability
