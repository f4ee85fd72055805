"""openai-whisper with our weights, and what it and the model make of the same audio and options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray

from benchmarks.openai_format import write_openai
from export.parity import sample_audio
from export.quiet import quiet
from tests.whisper_runtime import clips, engine, transcriber, transcript

Floats = NDArray[np.float32]

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "greedy": {},
    "beam": {"beam_size": 5},
    "beam, patient": {"beam_size": 3, "patience": 2.0, "length_penalty": 0.6},
    "beam, impatient": {"beam_size": 4, "patience": 0.5},
    "prompt": {"prompt": "Nine, eight, seven. " * 3},
    "prefix": {"prefix": "one two"},
    "prompt and prefix, beam": {"prompt": "seven", "prefix": "three", "beam_size": 2},
    "translate": {"language": "de", "task": "translate"},
    "without timestamps": {"without_timestamps": True},
    "without timestamps, beam": {"without_timestamps": True, "beam_size": 5},
}
"""openai-whisper's names; the language is detected where none is named."""


def openai_model(source: Path, folder: Path) -> whisper.Whisper:
    """openai-whisper with the weights of a Hugging Face checkpoint."""
    content = torch.load(write_openai(source, folder / "model.pt"), weights_only=True)
    model = whisper.Whisper(whisper.ModelDimensions(**content["dims"]))
    model.load_state_dict(content["model_state_dict"])
    return model.eval()


def full_windows(count: int) -> list[Floats]:
    """Clips of exactly 30 s, at whose end no rule of our own applies."""
    return [np.resize(audio, 480_000).astype(np.float32) for audio in sample_audio()[:count]]


def openai_decode(
    model: whisper.Whisper, audio: list[Floats], **options: Any
) -> list[whisper.DecodingResult]:
    """Its own `decode`, clip by clip: of several at once it refuses a beam."""
    found: list[whisper.DecodingResult] = []
    for one in audio:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(one), model.dims.n_mels)
        with quiet():
            found.append(whisper.decode(model, mel, whisper.DecodingOptions(fp16=False, **options)))
    return found


def openai_languages(model: whisper.Whisper, audio: list[Floats]) -> list[dict[str, float]]:
    """Its own `detect_language`: every language's probability."""
    mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(a), model.dims.n_mels) for a in audio]
    with quiet(), torch.no_grad():
        found: list[dict[str, float]] = whisper.detect_language(model, torch.stack(mels))[1]
    return found


def shortened(version: Path, tokens: int, folder: Path) -> transcriber.Transcriber:
    """The version, but stopping after so many tokens: random weights find no end of their own."""
    folder.mkdir()
    for path in version.iterdir():
        (folder / path.name).symlink_to(path)
    stop_after(folder, tokens)
    return transcriber_of(folder)


def transcriber_of(version: Path) -> transcriber.Transcriber:
    """A version's own code and graphs, without Triton."""
    return transcriber.Transcriber(version, engine.EngineSettings(intra_op_threads=1))


def stop_after(version: Path, tokens: int) -> None:
    """Have a version write no more than so many tokens."""
    path = version / "generation.json"
    content = json.loads(path.read_text())
    content["sizes"]["positions"] = 2 * tokens
    path.unlink()  # it may be a link
    path.write_text(json.dumps(content))


def transcribe(
    model: transcriber.Transcriber, audio: list[Floats], **options: Any
) -> list[transcript.Transcript]:
    """All clips in one batch, by openai-whisper's names of the options, without fallback."""
    if options.pop("without_timestamps", False):
        options["timestamps"] = False
    settings = clips.ClipOptions(**{"temperatures": (0.0,), **options})
    found = model.transcribe([clips.Clip(a, settings) for a in audio], [_never] * len(audio))
    return [one for one in found if one is not None]


def assert_equal(ours: list[transcript.Transcript], theirs: list[whisper.DecodingResult]) -> None:
    """The same language, the same tokens, the same probabilities."""
    for here, there in zip(ours, theirs, strict=True):
        assert here.language == there.language
        assert list(here.hypothesis.tokens) == there.tokens
        assert here.hypothesis.avg_logprob == pytest.approx(there.avg_logprob, abs=1e-3)
        assert here.hypothesis.no_speech_prob == pytest.approx(there.no_speech_prob, abs=1e-3)


def _never() -> bool:
    return False
