"""From a checkpoint to transcripts: what is exported decodes as openai-whisper does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
import whisper
from numpy.typing import NDArray

from export.errors import CheckpointError, ParityError
from export.parity import sample_audio
from export.quiet import quiet
from export.types import Checkpoint, ExportOptions, ModelFacts
from export.whisper import MODEL_SOURCE, export
from export.whisper_checkpoint import load
from export.whisper_generation import generation_facts
from export.whisper_graph import ENCODER_FRAMES, DecoderGraph, EncoderGraph
from export.whisper_parity import measure_parity
from tests.whisper_checkpoints import SIZES, random_model, write_checkpoint, write_openai_checkpoint
from tests.whisper_runtime import RELEASE, clips, engine, transcriber, transcript

BUNDLED: Final = Path(__file__).resolve().parents[2] / "export" / "checkpoints" / "whisper"

Floats = NDArray[np.float32]
Export = tuple[Path, Path, ModelFacts]


def never() -> bool:
    return False


def checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(path.name, path, bundled=False, license="unknown", source="random weights")


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    """Writes a random checkpoint and exports it: its folder, the version's folder, the facts."""
    done: dict[str, Export] = {}

    def made(name: str) -> Export:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            source = write_checkpoint(folder / "checkpoint", name)
            version = folder / "1"
            version.mkdir()
            done[name] = (source, version, export(checkpoint(source), ExportOptions(), version))
        return done[name]

    return made


@pytest.fixture(scope="session")
def nano(make: Callable[[str], Export]) -> transcriber.Transcriber:
    """The smallest export, loaded."""
    return transcriber.Transcriber(make("nano")[1], engine.EngineSettings())


def transcribe(
    model: transcriber.Transcriber, audio: list[Floats], **options: Any
) -> list[transcript.Transcript]:
    settings = clips.ClipOptions(**{"temperatures": (0.0,), **options})
    found = model.transcribe([clips.Clip(a, settings) for a in audio], [never] * len(audio))
    return [one for one in found if one is not None]


def openai_model(source: Path, folder: Path) -> whisper.Whisper:
    """openai-whisper with the weights of a Hugging Face checkpoint."""
    content = torch.load(write_openai_checkpoint(source, folder / "model.pt"), weights_only=True)
    model = whisper.Whisper(whisper.ModelDimensions(**content["dims"]))
    model.load_state_dict(content["model_state_dict"])
    return model.eval()


def full_windows(count: int) -> list[Floats]:
    """Clips of exactly 30 s, at whose end no rule of our own applies."""
    return [np.resize(audio, 480_000).astype(np.float32) for audio in sample_audio()[:count]]


def openai_decode(
    model: whisper.Whisper, audio: list[Floats], **options: Any
) -> list[whisper.DecodingResult]:
    mels = torch.stack([whisper.log_mel_spectrogram(a, model.dims.n_mels) for a in audio])
    with quiet():
        found: list[whisper.DecodingResult] = whisper.decode(
            model, mels, whisper.DecodingOptions(fp16=False, **options)
        )
    return found


def test_a_version_is_complete_in_itself(make: Callable[[str], Export]) -> None:
    _, version, facts = make("nano")
    files = {path.name for path in version.iterdir()}
    data = {"encoder.onnx", "decoder.onnx", "tokenizer.json", "generation.json"}
    assert files == data | {path.name for path in MODEL_SOURCE.glob("*.py")}
    assert facts.facts["sizes"] == {
        "d_model": 128,
        "heads": 4,
        "layers": 2,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "mels": 80,
        "vocab": 51865,
        "positions": 448,
    }


def test_greedy_tokens_are_those_of_transformers(make: Callable[[str], Export]) -> None:
    parity = make("nano")[2].parity
    assert parity["greedy_tokens_equal"] == parity["greedy_tokens"] == 48
    assert float(parity["logits_max_difference"]) <= 1e-3
    assert float(parity["encoder_max_difference"]) <= 1e-3


def test_decoding_is_that_of_openai_whisper(
    make: Callable[[str], Export], nano: transcriber.Transcriber, tmp_path: Path
) -> None:
    """Language, timestamps, suppression, stopping: same tokens, same probabilities."""
    audio = full_windows(2)
    expected = openai_decode(openai_model(make("nano")[0], tmp_path), audio)
    for theirs, ours in zip(expected, transcribe(nano, audio), strict=True):
        assert ours.language == theirs.language
        assert list(ours.hypothesis.tokens) == theirs.tokens
        assert ours.hypothesis.avg_logprob == pytest.approx(theirs.avg_logprob, abs=1e-3)
        assert ours.hypothesis.no_speech_prob == pytest.approx(theirs.no_speech_prob, abs=1e-5)


def test_a_prompt_is_read_as_in_openai_whisper(
    make: Callable[[str], Export], nano: transcriber.Transcriber, tmp_path: Path
) -> None:
    audio, said = full_windows(1), "Nine, eight, seven. " * 60
    model = openai_model(make("nano")[0], tmp_path)
    options = {"language": "de", "task": "translate", "prompt": said}
    (theirs,) = openai_decode(model, audio, sample_len=24, **options)
    (ours,) = transcribe(nano, audio, **options)
    assert list(ours.hypothesis.tokens)[:24] == theirs.tokens


def test_the_bundled_release_decodes_speech_as_openai_whisper_does(tmp_path: Path) -> None:
    """Trained weights, real voices, clips that end before the window does."""
    theirs = openai_model(BUNDLED, tmp_path)
    ours = transcriber.Transcriber(RELEASE, engine.EngineSettings())
    padded = [whisper.pad_or_trim(audio) for audio in sample_audio()]
    expected = openai_decode(theirs, padded)
    for there, here in zip(expected, transcribe(ours, sample_audio()), strict=True):
        assert here.language == there.language
        assert list(here.hypothesis.tokens) == there.tokens
        assert here.hypothesis.avg_logprob == pytest.approx(there.avg_logprob, abs=1e-3)
        assert here.hypothesis.no_speech_prob == pytest.approx(there.no_speech_prob, abs=1e-3)


@pytest.mark.parametrize("name", ["nano", "nano.en", "nano-v3"])
def test_generation_facts_are_those_of_openai_whisper(name: str, tmp_path: Path) -> None:
    """English-only, 99 and 100 languages: every id comes from the checkpoint's tokenizer."""
    size = SIZES[name]
    facts = generation_facts(load(checkpoint(write_checkpoint(tmp_path / name, name))))
    with quiet():
        theirs = whisper.tokenizer.get_tokenizer(
            size.multilingual, num_languages=size.languages, language="en", task="transcribe"
        )
    assert facts.tokens["start_of_transcript"] == theirs.sot
    assert facts.tokens["end_of_text"] == theirs.eot
    assert facts.tokens["no_speech"] == theirs.no_speech
    assert facts.tokens["timestamp_begin"] == theirs.timestamp_begin
    languages = dict(zip(theirs.all_language_codes, theirs.all_language_tokens, strict=True))
    assert facts.languages == (languages if size.multilingual else {})
    assert set(theirs.non_speech_tokens) <= set(facts.suppress)
    assert set(facts.begin_suppress) == {*theirs.encode(" "), theirs.eot}


def test_an_openai_file_is_the_same_model(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "folder", "nano")
    file = write_openai_checkpoint(source, tmp_path / "tiny.pt")
    ours, theirs = load(checkpoint(source)), load(checkpoint(file))
    assert theirs.generation["alignment_heads"][0] == [2, 2], "whisper-tiny's published heads"
    assert theirs.tokenizer.to_str() == ours.tokenizer.to_str()
    expected = ours.model.state_dict()
    found = theirs.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_equal_embeddings_are_stored_once() -> None:
    """A checkpoint that saw a few hundred tokens doesn't carry fifty thousand equal rows."""
    model = random_model(SIZES["nano"])
    with torch.no_grad():
        model.get_decoder().embed_tokens.weight[400:50_257] = 0.01
        hidden = torch.randn(1, ENCODER_FRAMES, 128)
        tokens = torch.tensor([[50_258, 50_259, 7, 30_000, 40_000]])
        expected = model.proj_out(
            model.get_decoder()(input_ids=tokens, encoder_hidden_states=hidden)[0]
        )
        graph = DecoderGraph(model, [(1, 0)])
        cross = EncoderGraph(model, fused_attention=False).cross_attention(hidden)
        past = [torch.zeros(1, 4, 0, 32)] * 4
        logits, *_ = graph(tokens, torch.zeros(1, dtype=torch.int64), torch.arange(5), past, cross)
    assert graph.table.shape == (51_865 - (50_257 - 400) + 1, 128)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_other_weights_fail_the_parity_check(make: Callable[[str], Export]) -> None:
    source, version, _ = make("nano")
    loaded = load(checkpoint(source))
    with torch.no_grad():
        loaded.model.get_decoder().layers[0].fc1.weight.mul_(1.01)
    with pytest.raises(ParityError):
        measure_parity(loaded.model, generation_facts(loaded), version, "fp32")


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    with pytest.raises(CheckpointError, match="wav2vec2"):
        load(checkpoint(tmp_path))
    noise = tmp_path / "noise.pt"
    noise.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"noise\.pt"):
        load(checkpoint(noise))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(checkpoint(tmp_path / "nothing"))
