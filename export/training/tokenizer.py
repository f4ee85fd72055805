"""Whisper's multilingual tokenizer in Hugging Face's format, built without a download.

openai-whisper carries the byte-level BPE ranks (``multilingual.tiktoken``); from them come the
merges, and with Whisper's control tokens and timestamps the 51,865 ids of ``openai/whisper-tiny``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import WhisperTokenizerFast

from export.training.whisper_vocabulary import (
    END_OF_TEXT,
    FIRST_TIMESTAMP,
    NUM_TIMESTAMPS,
    TIMESTAMP_STEP_S,
    openai_tokenizer,
)

# As the hub's openai/whisper-tiny has it.
MAX_LENGTH = 1024
_END = "<|endoftext|>"
_PREFIX = "<|startoftranscript|> <|notimestamps|>"
# What save_pretrained writes beside the two files that a fast tokenizer needs.
_SUPERFLUOUS = ("vocab.json", "merges.txt", "added_tokens.json", "normalizer.json")


def save_tokenizer(folder: Path) -> None:
    """Write ``tokenizer.json`` and the small configuration files beside it into ``folder``."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    # Without the layout that save_pretrained gives it, the file is half as large.
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    for name in _SUPERFLUOUS:
        (folder / name).unlink(missing_ok=True)


def build_tokenizer() -> WhisperTokenizerFast:
    """Hugging Face's fast tokenizer with openai-whisper's ids.

    Raises:
        ValueError: an id differs from openai-whisper's.
    """
    encoding = openai_tokenizer().encoding
    fast = _byte_level_bpe(encoding._mergeable_ranks)
    specials = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    control = [token for token, index in specials if index < FIRST_TIMESTAMP]
    fast.add_special_tokens([AddedToken(token, special=True) for token in control])
    stamps = [f"<|{index * TIMESTAMP_STEP_S:.2f}|>" for index in range(NUM_TIMESTAMPS)]
    fast.add_tokens([AddedToken(stamp, special=False) for stamp in stamps])
    fast.post_processor = processors.TemplateProcessing(
        single=f"{_PREFIX} $A {_END}",
        pair=f"{_PREFIX} $A $B {_END}",
        special_tokens=[(token, fast.token_to_id(token)) for token in (*_PREFIX.split(), _END)],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        fast.save(str(path))
        tokenizer = WhisperTokenizerFast(
            tokenizer_file=str(path),
            unk_token=_END,
            bos_token=_END,
            eos_token=_END,
            pad_token=_END,
            model_max_length=MAX_LENGTH,
            additional_special_tokens=[token for token in control if token != _END],
        )
    wrong = [token for token, index in specials if tokenizer.convert_tokens_to_ids(token) != index]
    if wrong:
        raise ValueError(f"ids differ from openai-whisper's: {', '.join(wrong[:5])}")
    return tokenizer


def _byte_level_bpe(ranks: Mapping[bytes, int]) -> Tokenizer:
    """A byte-level BPE tokenizer from tiktoken's ranks; id END_OF_TEXT - 1 is the empty string."""
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    vocabulary.setdefault("", END_OF_TEXT - 1)
    merges = []
    for token, rank in ranks.items():
        parts = _split_before(token, rank, ranks) if len(token) > 1 else []
        if len(parts) == 2:
            merges.append((spell(parts[0]), spell(parts[1])))
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _split_before(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The parts that BPE has merged a token into just before the merge of this rank."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        candidates = [
            (ranks.get(left + right, rank), place)
            for place, (left, right) in enumerate(pairwise(parts))
        ]
        best, place = min(candidates)
        if best >= rank:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _byte_letters() -> dict[int, str]:
    """GPT-2's stand-in for each byte: itself if printable Latin-1, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in printable}
    hidden = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(0x100 + index) for index, byte in enumerate(hidden)}
