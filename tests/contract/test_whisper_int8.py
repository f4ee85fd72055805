"""The int8 graphs answer like the float32 ones, and no row depends on its company."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.parity import sample_audio
from export.whisper_int8 import quantize_decoder, quantize_encoder
from tests.whisper_runtime import RELEASE, clips, engine, generation, transcriber


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
    tokens = np.tile(np.array([[[50_258, 50_259, 50_359]]]), (count, 1, 1))

    def logits(rows: list[int]) -> np.ndarray:  # type: ignore[type-arg]
        return sessions.decode(
            tokens[rows],
            np.zeros(len(rows), np.int64),
            [2],
            sessions.empty_cache(len(rows), 1),
            sessions.select(encoded, rows),
        ).logits

    together = logits(list(range(count)))
    for row in range(count):
        np.testing.assert_array_equal(logits([row])[0], together[row])


def test_int8_understands_real_speech(version: Path) -> None:
    model = transcriber.Transcriber(version, engine.EngineSettings(intra_op_threads=1))
    plain = transcriber.Transcriber(RELEASE, engine.EngineSettings(intra_op_threads=1))
    batch = [clips.Clip(audio, clips.ClipOptions()) for audio in sample_audio()]

    def languages(one: transcriber.Transcriber) -> list[str]:
        found = one.transcribe(batch, [lambda: False] * len(batch))
        return [transcript.language for transcript in found if transcript]

    assert languages(model) == languages(plain)
