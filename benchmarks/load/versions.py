"""Versions of what matters for speed in the running environment; needs nothing installed."""

from __future__ import annotations

from importlib.metadata import distributions
from typing import Final

_TOLD: Final = frozenset(
    "nvidia-pytriton onnxruntime openvino tritonclient numpy uvicorn fastapi httpx torch "
    "transformers faster-whisper ctranslate2 openai-whisper pywhispercpp speechbrain".split()
)


def here() -> dict[str, str]:
    """Package → version, of those that are installed."""
    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {name: found[name] for name in sorted(_TOLD & found.keys())}
