"""Tokens to text, text to tokens, and tokens to words."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces between words (openai-whisper, `split_to_word_tokens`)."""

PREPENDED_PUNCTUATION = "\"'“¿([{-"
APPENDED_PUNCTUATION = "\"'.。,，!！?？:：”)]}、"
"""Signs that belong to the word after and to the word before them (openai-whisper's defaults)."""

_INCOMPLETE = "\ufffd"


def _byte_signs() -> dict[str, int]:
    """The bytes by the signs that stand for them in a byte-level tokenizer's vocabulary.

    A byte's sign is its own character where that can be seen, else the next free one from U+0100
    (GPT-2's `bytes_to_unicode`).
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {
        chr(0x100 + place): byte for place, byte in enumerate(hidden)
    }


_BYTES = _byte_signs()


@dataclass(frozen=True)
class WordTokens:
    """A word as it stands in the text, with its leading space if it has one, and its tokens."""

    text: str
    tokens: tuple[int, ...]


class WhisperTokenizer:
    """The checkpoint's tokenizer.json; `end_of_text` is the first id that isn't text."""

    def __init__(self, path: Path, end_of_text: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._end_of_text = end_of_text

    def encode_prompt(self, prompt: str) -> list[int]:
        """Tokens of a text that came before the clip, without what looks like control tokens."""
        encoded = self._tokenizer.encode(" " + prompt.strip(), add_special_tokens=False)
        return [token for token in encoded.ids if token < self._end_of_text]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; control tokens and timestamps have none."""
        text: str = self._tokenizer.decode(
            [token for token in tokens if token < self._end_of_text], skip_special_tokens=False
        )
        return text

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a text token stands for; they needn't be whole characters."""
        return bytes(_BYTES[sign] for sign in self._tokenizer.id_to_token(token))

    def split_words(self, tokens: Sequence[int], language: str) -> list[WordTokens]:
        """Splits text tokens into words: at spaces, or at every character where none are written.

        Punctuation is joined to the word that it belongs to.
        """
        pieces = self._split_characters(tokens)
        if language not in UNSPACED_LANGUAGES:
            pieces = _join_at_spaces(pieces)
        return _join_punctuation(pieces)

    def _split_characters(self, tokens: Sequence[int]) -> list[WordTokens]:
        """The smallest runs of tokens that are whole characters: a character may take several."""
        whole = self.decode(tokens)
        pieces: list[WordTokens] = []
        pending: list[int] = []
        offset = 0
        for token in tokens:
            pending.append(token)
            text = self.decode(pending)
            at = text.find(_INCOMPLETE)
            if at < 0 or whole[offset + at : offset + at + 1] == _INCOMPLETE:
                pieces.append(WordTokens(text, tuple(pending)))
                pending = []
                offset += len(text)
        rest = WordTokens(whole[offset:], tuple(pending))
        if pending and (rest.text or not pieces):
            return [*pieces, rest]
        # Broken bytes may show as one sign together, and as two apart.
        return [*pieces[:-1], _joined(pieces[-1], rest)] if pending else pieces


def _join_at_spaces(pieces: Sequence[WordTokens]) -> list[WordTokens]:
    """A word begins at a space or at a lone punctuation sign."""
    words: list[WordTokens] = []
    for piece in pieces:
        starts = piece.text.startswith(" ") or piece.text.strip() in string.punctuation
        if starts or not words:
            words.append(piece)
        else:
            words[-1] = _joined(words[-1], piece)
    return words


def _join_punctuation(words: Sequence[WordTokens]) -> list[WordTokens]:
    opened: list[WordTokens] = []
    for word in reversed(words):
        opening = word.text.startswith(" ") and word.text.strip() in PREPENDED_PUNCTUATION
        if opening and opened:
            opened[-1] = _joined(word, opened[-1])
        else:
            opened.append(word)
    closed: list[WordTokens] = []
    for word in reversed(opened):
        if closed and not closed[-1].text.endswith(" ") and word.text in APPENDED_PUNCTUATION:
            closed[-1] = _joined(closed[-1], word)
        else:
            closed.append(word)
    return closed


def _joined(first: WordTokens, second: WordTokens) -> WordTokens:
    return WordTokens(first.text + second.text, first.tokens + second.tokens)
