"""What counts as the same word: both sides are normalised alike before they are compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

from benchmarks.errors import UsageError

Normalise = Callable[[str], str]

DESCRIPTIONS: Final = {
    "basic": "Unicode NFKC, case folded, punctuation and symbols to spaces, any language",
    "english": "openai-whisper's EnglishTextNormalizer: also numbers, spelling and contractions",
    "none": "as written, white space collapsed",
}


def basic(text: str) -> str:
    """`Don't  STOP.` → `don t stop`, as Whisper's paper does for other languages than English.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022),
    appendix C, without its removal of diacritics and of what stands in brackets.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (" " if unicodedata.category(c)[0] in "PS" else c for c in folded)
    return " ".join("".join(kept).split())


def normaliser(name: str) -> Normalise:
    """The normaliser of that name.

    Raises:
        UsageError: it isn't installed.
    """
    if name == "basic":
        return basic
    if name == "none":
        return lambda text: " ".join(text.split())
    try:
        from whisper.normalizers import EnglishTextNormalizer
    except ImportError as error:
        raise UsageError(
            "--normalise english needs openai-whisper: pip install --no-deps openai-whisper, "
            "and torch"
        ) from error
    english: Normalise = EnglishTextNormalizer()
    return english
