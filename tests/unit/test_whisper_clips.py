"""What the Whisper model accepts, and what it answers with an error of the clip's own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.whisper_runtime import clips
from tests.whisper_vocabulary import GENERATION

AUDIO = np.zeros(1600, np.float32)
ENGLISH_ONLY = replace(GENERATION, languages={})


@pytest.mark.parametrize("nothing", [b"", b"  ", b"{}"])
def test_no_options_are_the_defaults(nothing: bytes) -> None:
    assert clips.parse_clip(AUDIO, nothing, GENERATION).options == clips.ClipOptions()


def test_all_options_are_read() -> None:
    given = {
        "language": "en",
        "task": "translate",
        "word_timestamps": True,
        "temperatures": [0, 0.5],
        "prompt": "Before.",
        "prefix": "First",
        "timestamps": False,
        "logprobs": True,
        "beam_size": 5,
        "best_of": 3,
        "patience": 2,
        "length_penalty": 0.5,
    }
    options = clips.parse_clip(AUDIO, json.dumps(given).encode(), GENERATION).options
    assert asdict(options) == {**given, "temperatures": (0.0, 0.5)}


def test_null_is_the_default() -> None:
    given = {"language": None, "temperatures": None, "prompt": None}
    options = clips.parse_clip(AUDIO, json.dumps(given).encode(), GENERATION).options
    assert options.temperatures == clips.DEFAULT_TEMPERATURES and options.language is None


@pytest.mark.parametrize(
    ("audio", "complaint"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(480_001, np.float32), "480001 samples"),
        (np.array([0.0, np.nan], np.float32), "not finite"),
        (np.array([0.0, np.inf], np.float32), "not finite"),
    ],
)
def test_unusable_audio_is_refused(audio: np.ndarray, complaint: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(clips.InvalidClip, match=complaint):
        clips.parse_clip(audio, b"", GENERATION)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (b"{", "isn't JSON"),
        (b"\xff", "isn't JSON"),
        (b"[]", "isn't a JSON object"),
        (b'{"langage": "en"}', "unknown options: langage"),
        (b'{"language": "xx"}', "language 'xx'"),
        (b'{"language": 3}', "language 3"),
        (b'{"task": "summarise"}', "task 'summarise'"),
        (b'{"word_timestamps": 1}', "word_timestamps 1"),
        (b'{"temperatures": []}', "temperatures"),
        (b'{"temperatures": 0.5}', "temperatures"),
        (b'{"temperatures": [0, "1"]}', "temperatures"),
        (b'{"temperatures": [-0.1]}', "temperatures"),
        (b'{"temperatures": [NaN]}', "temperatures"),
        (b'{"temperatures": [true]}', "temperatures"),
        (b'{"prompt": ["a"]}', "prompt"),
        (b'{"prefix": 7}', "prefix"),
        (b'{"logprobs": "yes"}', "logprobs"),
        (b'{"timestamps": null}', "timestamps"),
        (b'{"beam_size": 0}', "beam_size 0"),
        (b'{"beam_size": 11}', "1 to 10"),
        (b'{"beam_size": true}', "beam_size True"),
        (b'{"best_of": 2.0}', "best_of 2.0"),
        (b'{"patience": 0}', "patience 0"),
        (b'{"patience": NaN}', "patience nan"),
        (b'{"length_penalty": 1.5}', "length_penalty 1.5"),
    ],
)
def test_wrong_options_are_refused(options: bytes, complaint: str) -> None:
    with pytest.raises(clips.InvalidClip, match=complaint):
        clips.parse_clip(AUDIO, options, GENERATION)


@pytest.mark.parametrize("options", [b'{"language": "de"}', b'{"task": "translate"}'])
def test_an_english_only_model_says_so(options: bytes) -> None:
    with pytest.raises(clips.InvalidClip, match="English only"):
        clips.parse_clip(AUDIO, options, ENGLISH_ONLY)
    assert clips.parse_clip(AUDIO, b'{"language": "en"}', ENGLISH_ONLY).options.language == "en"
