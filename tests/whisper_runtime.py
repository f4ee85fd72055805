"""The Whisper model's own modules, imported as Triton's python backend imports them.

They lie in the version folder and import each other by their bare names, since a version folder is
complete in itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

RELEASE: Final = Path(__file__).resolve().parents[1] / "model_repository" / "whisper" / "1"
"""The committed version of the `whisper` model."""

sys.path.insert(0, str(RELEASE))

import alignment  # noqa: E402
import clips  # noqa: E402
import cpu_encoder  # noqa: E402
import decoding  # noqa: E402
import doubt  # noqa: E402
import engine  # noqa: E402
import generation  # noqa: E402
import rules  # noqa: E402
import search  # noqa: E402
import segments  # noqa: E402
import tokenization  # noqa: E402
import transcriber  # noqa: E402
import transcript  # noqa: E402

__all__ = [
    "RELEASE",
    "alignment",
    "clips",
    "cpu_encoder",
    "decoding",
    "doubt",
    "engine",
    "generation",
    "rules",
    "search",
    "segments",
    "tokenization",
    "transcriber",
    "transcript",
]
