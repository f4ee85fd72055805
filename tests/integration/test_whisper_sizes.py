"""Full-size Whisper: checkpoint → export → Triton → answer, as openai-whisper decodes it."""

from __future__ import annotations

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
from tests.contract.test_whisper_export import full_windows, openai_decode, openai_model
from tests.whisper_checkpoints import write_checkpoint

FIRST_TOKENS = 32
"""Random weights never end; so many tokens are compared, timestamps among them."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_a_true_size_answers_through_triton_as_openai_whisper_decodes(
    size: str, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / size, size)
    repository = tmp_path / "models"
    publish.seed(repository)
    release.make(release.Release("whisper", str(source), ExportOptions()), repository, print)
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
    server = EmbeddedTriton(repository, tmp_path / "triton", Ports(0, 0, 0))
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
