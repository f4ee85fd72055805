"""What the exporter's parts hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
Target: TypeAlias = Literal["embedded", "onnxruntime", "tensorrt"]
ModelName: TypeAlias = Literal["whisper", "emotion", "speaker_embedding"]

PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "fp16", "bf16", "int8")
TARGETS: Final[tuple[Target, ...]] = ("embedded", "onnxruntime", "tensorrt")
MODEL_NAMES: Final[tuple[ModelName, ...]] = ("whisper", "emotion", "speaker_embedding")

ENSEMBLE_NAME: Final = "voice_analytics"

SAMPLE_RATE_HZ: Final = 16000
"""All three models take 16 kHz mono audio."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that lies on this machine.

    `name` is what the manifest calls it ("bundled", a hub name, or a folder's name), `path` the
    folder (or the openai-whisper `.pt` file), `source` where it came from in one line, `license` as
    its model card states it, or "unknown".
    """

    name: str
    path: Path
    bundled: bool
    license: str
    source: str


@dataclass(frozen=True)
class ExportOptions:
    """What to make of a checkpoint: number format, the Triton it is for, and the ONNX opset."""

    precision: Precision = "fp32"
    target: Target = "embedded"
    opset: int = 18


@dataclass(frozen=True)
class ModelFacts:
    """What an exporter reports about the files that it wrote; it becomes part of manifest.json.

    `facts` are model facts under the manifest's own keys (whisper `sizes`; emotion `labels`,
    `window_s`; …), `parity` what was measured against PyTorch, `options` the choices that shaped
    the files beyond `ExportOptions`.
    """

    facts: Mapping[str, object]
    parity: Mapping[str, float | bool | int | str]
    opset: int
    options: Mapping[str, object] = field(default_factory=dict)


class Exporter(Protocol):
    """The one function that `export/whisper.py`, `export/emotion.py` and
    `export/speaker_embedding.py` define."""

    def __call__(self, checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
        """Writes every file of the version but manifest.json into the existing, empty folder
        `staging`.

        Raises:
            CheckpointError: the checkpoint isn't of this model's kind.
            ParityError: what was written doesn't answer as PyTorch does.
        """
