"""From a checkpoint to transcripts: what is exported decodes as openai-whisper does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import torch
import whisper

from benchmarks.openai_format import write_openai
from export.errors import CheckpointError, ParityError
from export.parity import sample_audio
from export.quiet import quiet
from export.types import Checkpoint, ExportOptions, ModelFacts
from export.whisper import MODEL_SOURCE, export
from export.whisper_checkpoint import load
from export.whisper_generation import generation_facts
from export.whisper_graph import ENCODER_FRAMES, DecoderGraph, EncoderGraph
from export.whisper_parity import measure_parity
from tests.whisper_checkpoints import SIZES, random_model, write_checkpoint
from tests.whisper_openai import (
    OPTIONS,
    assert_equal,
    full_windows,
    openai_decode,
    openai_languages,
    openai_model,
    shortened,
    transcribe,
)
from tests.whisper_runtime import RELEASE, engine, transcriber

BUNDLED: Final = Path(__file__).resolve().parents[2] / "export" / "checkpoints" / "whisper"
FIRST_TOKENS: Final = 32
"""Random weights never end; so many tokens are compared, timestamps among them."""

Export = tuple[Path, Path, ModelFacts]


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


@pytest.fixture(scope="module")
def nano(
    make: Callable[[str], Export], tmp_path_factory: pytest.TempPathFactory
) -> transcriber.Transcriber:
    """The smallest export, loaded."""
    return shortened(make("nano")[1], FIRST_TOKENS, tmp_path_factory.mktemp("short") / "1")


@pytest.fixture(scope="module")
def random_openai(
    make: Callable[[str], Export], tmp_path_factory: pytest.TempPathFactory
) -> whisper.Whisper:
    """The same weights in openai-whisper."""
    return openai_model(make("nano")[0], tmp_path_factory.mktemp("openai"))


@pytest.fixture(scope="module")
def bundled() -> transcriber.Transcriber:
    return transcriber.Transcriber(RELEASE, engine.EngineSettings(intra_op_threads=1))


@pytest.fixture(scope="module")
def bundled_openai(tmp_path_factory: pytest.TempPathFactory) -> whisper.Whisper:
    return openai_model(BUNDLED, tmp_path_factory.mktemp("openai"))


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


@pytest.mark.parametrize("name", OPTIONS)
def test_random_weights_decode_as_in_openai_whisper(
    name: str,
    nano: transcriber.Transcriber,
    random_openai: whisper.Whisper,
) -> None:
    """Every option: same tokens, same probabilities, whatever the weights."""
    audio = full_windows(2)
    theirs = openai_decode(random_openai, audio, sample_len=FIRST_TOKENS, **OPTIONS[name])
    assert_equal(transcribe(nano, audio, **OPTIONS[name]), theirs)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_bundled_release_decodes_speech_as_openai_whisper_does(
    name: str, bundled: transcriber.Transcriber, bundled_openai: whisper.Whisper
) -> None:
    """Trained weights, real voices, clips that end before the window does, in one batch."""
    theirs = openai_decode(bundled_openai, sample_audio(), **OPTIONS[name])
    assert_equal(transcribe(bundled, sample_audio(), **OPTIONS[name]), theirs)


def test_languages_are_as_likely_as_in_openai_whisper(
    bundled: transcriber.Transcriber,
    bundled_openai: whisper.Whisper,
    nano: transcriber.Transcriber,
    random_openai: whisper.Whisper,
) -> None:
    for ours, theirs in ((bundled, bundled_openai), (nano, random_openai)):
        expected = openai_languages(theirs, sample_audio())
        for here, there in zip(transcribe(ours, sample_audio()), expected, strict=True):
            assert here.languages == pytest.approx(there, abs=1e-3)
            assert sum(here.languages.values()) == pytest.approx(1.0, abs=1e-3)


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
    file = write_openai(source, tmp_path / "tiny.pt")
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
        past = [torch.zeros(1, 1, 4, 0, 32)] * 4
        none = torch.zeros(1, dtype=torch.int64)
        logits, *_ = graph(tokens.unsqueeze(1), none, torch.arange(5), past, cross)
    assert graph.table.shape == (51_865 - (50_257 - 400) + 1, 128)
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=1e-5)


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
