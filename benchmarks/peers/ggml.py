"""openai-whisper's weights as whisper.cpp's ggml file, matrices as q8_0.

The layout is that of whisper.cpp's own models/convert-pt-to-ggml.py and examples/quantize (MIT),
neither of which is on PyPI: a header of 32-bit integers, the mel filters, the vocabulary, then each
tensor with its name, its dimensions from the innermost outwards, and its type.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = 0x67676D6C
_F32, _F16, _Q8_0 = 0, 1, 8
_MOSTLY_Q8_0: Final = 2 * 1000 + 7
"""GGML_QNT_VERSION * GGML_QNT_VERSION_FACTOR + GGML_FTYPE_MOSTLY_Q8_0."""

_BLOCK: Final = 32
_HEADER: Final = (
    "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer "
    "n_text_ctx n_text_state n_text_head n_text_layer n_mels"
).split()
_KEPT_F32: Final = frozenset(
    "encoder.conv1.bias encoder.conv2.bias encoder.positional_embedding "
    "decoder.positional_embedding".split()
)


def converted(weights: Path) -> Path:
    """The ggml file beside `openai.pt`, made on first use."""
    path = weights / "ggml-q8_0.bin"
    if not path.exists():
        import torch

        saved = torch.load(weights / "openai.pt", map_location="cpu", weights_only=True)
        staging = path.with_suffix(".part")
        with open(staging, "wb") as file:
            _write(file, saved["dims"], saved["model_state_dict"])
        staging.rename(path)
    return path


def _write(file: BinaryIO, dimensions: dict[str, int], weights: dict[str, Any]) -> None:
    from whisper.audio import mel_filters
    from whisper.tokenizer import get_encoding

    header = [dimensions[name] for name in _HEADER]
    file.write(struct.pack("<12i", _MAGIC, *header, _MOSTLY_Q8_0))
    filters = mel_filters("cpu", dimensions["n_mels"]).numpy().astype("<f4")
    file.write(struct.pack("<2i", *filters.shape))
    file.write(filters.tobytes())
    encoding = get_encoding("multilingual")
    words = [encoding.decode_single_token_bytes(t) for t in range(encoding.eot_token)]
    file.write(struct.pack("<i", len(words)))
    for word in words:
        file.write(struct.pack("<I", len(word)) + word)
    for name, tensor in weights.items():
        _write_tensor(file, name, tensor.float().numpy())


def _write_tensor(file: BinaryIO, name: str, values: NDArray[np.float32]) -> None:
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        values = values.reshape(-1, 1)
    if values.ndim == 2 and name not in _KEPT_F32:
        kind, content = _Q8_0, _quantised(values)
    elif values.ndim == 3:
        kind, content = _F16, values.astype("<f2").tobytes()
    else:
        kind, content = _F32, values.astype("<f4").tobytes()
    file.write(struct.pack("<3i", values.ndim, len(name), kind))
    file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)))
    file.write(name.encode() + content)


def _quantised(values: NDArray[np.float32]) -> bytes:
    """Blocks of 32 values of a row: a half-precision scale, then 32 signed bytes."""
    blocks = values.reshape(-1, _BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    steps = np.round(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0))
    packed = np.empty(len(blocks), dtype=[("scale", "<f2"), ("steps", "i1", (_BLOCK,))])
    packed["scale"], packed["steps"] = scale[:, 0], steps
    return packed.tobytes()
