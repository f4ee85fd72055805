"""The encoder in OpenVINO: a compilation that went wrong is noticed before anybody is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.parity import sample_audio
from tests.whisper_runtime import RELEASE, cpu_encoder

Floats = NDArray[np.float32]
GRAPH = RELEASE / "encoder.onnx"


class Spoiled(cpu_encoder.CpuEncoder):
    """The first `wrong` compilations have a thread that answers `spoil` of the truth."""

    wrong = 0
    compiled = 0

    @staticmethod
    def spoil(row: NDArray[Any]) -> None:
        row[...] = np.nan

    def _compile(self, threads: int, precision: Any) -> None:
        self.compiled += 1
        super()._compile(threads, precision)

    def encode(self, clips: Sequence[Floats]) -> dict[str, NDArray[Any]]:
        answers = super().encode(clips)
        if self.compiled <= self.wrong and len(clips) > 1:
            self.spoil(next(iter(answers.values()))[-1])
        return answers


class Exchanged(Spoiled):
    """Numbers, but not those of this sound."""

    @staticmethod
    def spoil(row: NDArray[Any]) -> None:
        row[...] = row[::-1].copy()


@pytest.mark.parametrize("kind", [Spoiled, Exchanged])
def test_what_was_compiled_wrong_is_compiled_again(
    kind: type[Spoiled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "wrong", 2)
    encoder = kind(GRAPH, threads=2, precision="fp32")
    assert encoder.compiled == 3
    alone = encoder.encode(sample_audio()[:1])
    together = encoder.encode(sample_audio()[:2])
    for name, rows in together.items():
        np.testing.assert_allclose(rows[0], alone[name][0], atol=1e-5)


def test_what_is_wrong_each_time_is_never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spoiled, "wrong", 99)
    with pytest.raises(RuntimeError, match="threads don't agree"):
        Spoiled(GRAPH, threads=2, precision="fp32")
