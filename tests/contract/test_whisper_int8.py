"""The int8 graphs answer like the float32 ones, and no row depends on its company."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.parity import sample_audio
from export.whisper_int8 import quantize_decoder, quantize_encoder
from tests.whisper_runtime import RELEASE, clips, engine, generation, transcriber, transcript


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled release with int8 weights."""
    folder = tmp_path_factory.mktemp("int8")
    for name in ("tokenizer.json", "generation.json"):
        shutil.copyfile(RELEASE / name, folder / name)
    quantize_encoder(RELEASE / "encoder.onnx", folder / "encoder.onnx", external_data=False)
    quantize_decoder(RELEASE / "decoder.onnx", folder / "decoder.onnx", external_data=False)
    return folder


def test_int8_is_smaller(version: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (version / name).stat().st_size < 0.75 * (RELEASE / name).stat().st_size


def test_a_row_is_the_same_alone_and_in_a_batch(version: Path) -> None:
    """Bit for bit: one activation scale per batch would let neighbours change one another."""
    sessions = engine.Engine(
        version,
        generation.Generation.read(version / "generation.json").sizes,
        engine.EngineSettings(intra_op_threads=1),
    )
    encoded = sessions.encode(sample_audio())
    count = encoded.count
    prompt = np.tile(np.array([[[50_258, 50_259, 50_359]]]), (count, 1, 1))
    step = np.full((count, 1, 1), 300)

    def logits(rows: list[int]) -> np.ndarray:  # type: ignore[type-arg]
        """After the prompt and after one more token: (clips, 2, vocab)."""
        padding, own = np.zeros(len(rows), np.int64), sessions.select(encoded, rows)
        cache = sessions.empty_cache(len(rows), 1)
        read = sessions.decode(prompt[rows], padding, [2], cache, own)
        stepped = sessions.decode(step[rows], padding, [0], read.cache, own)
        return np.concatenate([read.logits[:, 0], stepped.logits[:, 0]], axis=1)

    together = logits(list(range(count)))
    for row in range(count):
        np.testing.assert_array_equal(logits([row])[0], together[row])


def test_a_step_is_a_prompt_read_token_by_token(version: Path) -> None:
    """Batches of single rows and many rows of one clip take different ways through the graph."""
    sizes = generation.Generation.read(version / "generation.json").sizes
    sessions = engine.Engine(version, sizes, engine.EngineSettings(intra_op_threads=1))
    encoded = sessions.encode(sample_audio()[:2])
    tokens, padding = np.array([[[50_258, 50_259, 50_359]]] * 2), np.zeros(2, np.int64)
    whole = sessions.decode(tokens, padding, [2], sessions.empty_cache(2, 1), encoded)
    cache = sessions.empty_cache(2, 1)
    for column in range(tokens.shape[2]):
        token = tokens[:, :, column : column + 1]
        step = sessions.decode(token, padding, [0], cache, encoded)
        cache = step.cache
    np.testing.assert_allclose(step.logits, whole.logits, atol=0.05 * whole.logits.std())
    assert whole.alignment.shape()[0] == 2 and step.alignment.shape()[0] == 0


def test_int8_answers_alike_alone_and_in_any_company(version: Path) -> None:
    """Prompts of different length, beams, word times: each clip as if it were alone."""
    model = transcriber.Transcriber(version, engine.EngineSettings(intra_op_threads=1))
    audio = sample_audio()
    batch = [
        clips.Clip(audio[0], clips.ClipOptions(word_timestamps=True)),
        clips.Clip(audio[1], clips.ClipOptions(language="en", prompt="one two three four")),
        clips.Clip(audio[2], clips.ClipOptions(beam_size=3, word_timestamps=True)),
        clips.Clip(audio[3], clips.ClipOptions(beam_size=3, language="en")),
    ]

    def answers(some: list[clips.Clip]) -> list[str]:
        found = model.transcribe(some, [lambda: False] * len(some))
        return [transcript.to_json(one, model.tokenizer) for one in found if one]

    together = answers(batch)
    assert together == [answers([one])[0] for one in batch]
    assert '"words":[{' in together[0].replace(" ", "")


def test_int8_understands_real_speech(version: Path) -> None:
    model = transcriber.Transcriber(version, engine.EngineSettings(intra_op_threads=1))
    plain = transcriber.Transcriber(RELEASE, engine.EngineSettings(intra_op_threads=1))
    batch = [clips.Clip(audio, clips.ClipOptions()) for audio in sample_audio()]

    def languages(own: transcriber.Transcriber) -> list[str]:
        found = own.transcribe(batch, [lambda: False] * len(batch))
        return [one.language for one in found if one]

    assert languages(model) == languages(plain)
