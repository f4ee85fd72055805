"""Full-size Whisper: checkpoint → export → Triton → answer, as openai-whisper decodes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from api.services import whisper
from api.tensors import Tensors
from api.triton import TritonControl
from api.triton_server import EmbeddedTriton, Ports
from export import publish, release
from export.types import ExportOptions
from tests.whisper_checkpoints import write_checkpoint
from tests.whisper_openai import (
    OPTIONS,
    assert_equal,
    full_windows,
    openai_decode,
    openai_model,
    stop_after,
    transcribe,
    transcriber_of,
)

FIRST_TOKENS = 32
"""Random weights never end; so many tokens are compared, timestamps among them."""

Exported = tuple[Path, Path]
"""The checkpoint, and its release in a repository, which stops after those tokens."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    done: dict[str, Exported] = {}

    def make(size: str) -> Exported:
        if size not in done:
            folder = tmp_path_factory.mktemp(size)
            source, repository = write_checkpoint(folder / size, size), folder / "models"
            publish.seed(repository)
            release.make(
                release.Release("whisper", str(source), ExportOptions()), repository, print
            )
            version = repository / "whisper" / str(publish.versions(repository, "whisper")[-1])
            stop_after(version, FIRST_TOKENS)
            done[size] = source, version
        return done[size]

    return make


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_a_true_size_answers_through_triton_as_openai_whisper_decodes(
    size: str, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    source, version = exported(size)
    (audio,) = full_windows(1)
    (theirs,) = openai_decode(
        openai_model(source, tmp_path), [audio], language="en", sample_len=FIRST_TOKENS
    )
    ask: Tensors = {
        whisper.AUDIO.name: audio[None],
        whisper.OPTIONS.name: np.array(
            [[b'{"language": "en", "temperatures": [0]}']], dtype=np.object_
        ),
    }
    server = EmbeddedTriton(version.parent.parent, tmp_path / "triton", Ports(0, 0, 0))
    try:
        server.start()
        with TritonControl(server.url) as control:
            answer = control.infer(whisper.SPEC, ask, timeout_s=300)
    finally:
        server.stop()
    content = orjson.loads(answer[whisper.TRANSCRIPT.name].reshape(-1)[0])
    written = [token for segment in content["segments"] for token in segment["tokens"]]
    end_of_text = 50257
    expected = [token for token in theirs.tokens if token < end_of_text]
    assert len(expected) > FIRST_TOKENS // 2
    assert [token for token in written if token < end_of_text][: len(expected)] == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_true_size_decodes_with_every_option_as_openai_whisper(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    """Beams, prompts, prefixes, translation, no timestamps: same tokens, same probabilities."""
    source, version = exported("tiny")
    ours = transcriber_of(version)
    theirs = openai_model(source, tmp_path)
    for options in OPTIONS.values():
        audio = full_windows(1)
        expected = openai_decode(theirs, audio, sample_len=FIRST_TOKENS, **options)
        assert_equal(transcribe(ours, audio, **options), expected)
