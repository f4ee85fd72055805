"""What the serving side must know about a Whisper beyond its weights: generation.json.

Token ids come from the checkpoint's tokenizer, so that English-only models, models with 99 and with
100 languages, and fine-tuned ones need no table here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tokenizers import Tokenizer

from export.errors import CheckpointError
from export.whisper_checkpoint import WhisperCheckpoint
from export.whisper_graph import WhisperSizes, sizes_of

GENERATION_FILE: Final = "generation.json"

_SPECIAL_TOKENS: Final[dict[str, tuple[str, ...]]] = {
    "end_of_text": ("<|endoftext|>",),
    "start_of_transcript": ("<|startoftranscript|>",),
    "start_of_previous": ("<|startofprev|>",),
    "start_of_lm": ("<|startoflm|>",),
    "translate": ("<|translate|>",),
    "transcribe": ("<|transcribe|>",),
    "no_speech": ("<|nospeech|>", "<|nocaptions|>"),
    "no_timestamps": ("<|notimestamps|>",),
}
"""Our name → the token's text; the first that the vocabulary holds (older checkpoints say
`nocaptions`)."""

_MULTILINGUAL_VOCAB: Final = 51865
_LANGUAGE: Final = re.compile(r"<\|([a-z]{2,3})\|>")
_DEFAULT_MAX_INITIAL_TIMESTAMP: Final = 50
"""1 s in steps of 20 ms, openai-whisper's default."""

_SYMBOLS: Final = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"),
    *("[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
_MUSIC: Final = "♩♪♫♬♭♮♯"
"""Signs that no speech contains (openai-whisper, `Tokenizer.non_speech_tokens`); of a musical sign
that takes several tokens the first is enough, since they all begin with the same bytes."""


@dataclass(frozen=True)
class GenerationFacts:
    """The content of generation.json.

    Attributes:
        tokens: special tokens by our name; `timestamp_begin` is the token of 0.00 s.
        languages: language code → token; empty for an English-only model.
        suppress: tokens that are never chosen; `begin_suppress`: never chosen first.
        max_initial_timestamp_index: latest first timestamp, in steps of 20 ms.
        alignment_heads: (layer, head) pairs whose cross-attention follows the audio, ascending.
    """

    sizes: WhisperSizes
    tokens: Mapping[str, int]
    languages: Mapping[str, int]
    suppress: Sequence[int]
    begin_suppress: Sequence[int]
    max_initial_timestamp_index: int
    alignment_heads: Sequence[tuple[int, int]]

    def to_json(self) -> str:
        """The file's text."""
        content = asdict(self)
        content["sizes"]["head_dim"] = self.sizes.head_dim
        return json.dumps(content, ensure_ascii=False) + "\n"


def generation_facts(checkpoint: WhisperCheckpoint) -> GenerationFacts:
    """Gathers what decoding needs from tokenizer, generation settings and weights.

    Raises:
        CheckpointError: the tokenizer isn't a Whisper tokenizer, or doesn't fit the weights.
    """
    sizes = sizes_of(checkpoint.model)
    tokens = _special_tokens(checkpoint.tokenizer)
    if tokens["timestamp_begin"] >= sizes.vocab:
        raise CheckpointError(
            f"the tokenizer doesn't fit the weights: its timestamps begin at "
            f"{tokens['timestamp_begin']}, the model knows {sizes.vocab} tokens"
        )
    config = checkpoint.generation
    multilingual = config.get("is_multilingual", sizes.vocab >= _MULTILINGUAL_VOCAB)
    initial = config.get("max_initial_timestamp_index")
    return GenerationFacts(
        sizes=sizes,
        tokens=tokens,
        languages=_languages(checkpoint.tokenizer, tokens) if multilingual else {},
        suppress=_suppressed(checkpoint.tokenizer, tokens, config, sizes),
        begin_suppress=_suppressed_at_begin(checkpoint.tokenizer, tokens, config),
        max_initial_timestamp_index=(
            _DEFAULT_MAX_INITIAL_TIMESTAMP if initial is None else int(initial)
        ),
        alignment_heads=_alignment_heads(config.get("alignment_heads"), sizes),
    )


def _alignment_heads(
    named: Sequence[Sequence[int]] | None, sizes: WhisperSizes
) -> list[tuple[int, int]]:
    """Those the checkpoint names, else every head of the decoder's upper half."""
    if not named:
        upper = range(sizes.decoder_layers // 2, sizes.decoder_layers)
        return [(layer, head) for layer in upper for head in range(sizes.heads)]
    heads = sorted({(int(layer), int(head)) for layer, head in named})
    if any(layer >= sizes.decoder_layers or head >= sizes.heads for layer, head in heads):
        raise CheckpointError(f"alignment_heads name heads that the model doesn't have: {heads}")
    return heads


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, spellings in _SPECIAL_TOKENS.items():
        ids = [tokenizer.token_to_id(spelling) for spelling in spellings]
        known = [token for token in ids if token is not None]
        if not known:
            raise CheckpointError(f"the tokenizer isn't Whisper's: it has no {spellings[0]}")
        found[name] = known[0]
    found["timestamp_begin"] = found["no_timestamps"] + 1
    return found


def _languages(tokenizer: Tokenizer, tokens: Mapping[str, int]) -> dict[str, int]:
    """Language code → token; they lie between the start token and the first task token."""
    first = tokens["start_of_transcript"] + 1
    last = min(tokens["translate"], tokens["transcribe"])
    found: dict[str, int] = {}
    for token in range(first, last):
        match = _LANGUAGE.fullmatch(tokenizer.id_to_token(token) or "")
        if match:
            found[match.group(1)] = token
    if not found:
        raise CheckpointError("the tokenizer of a multilingual Whisper has no language tokens")
    return found


def _suppressed(
    tokenizer: Tokenizer,
    tokens: Mapping[str, int],
    config: Mapping[str, Any],
    sizes: WhisperSizes,
) -> list[int]:
    """The checkpoint's own list, or openai-whisper's, and always the control tokens."""
    listed: Sequence[int] | None = config.get("suppress_tokens")
    if listed is None or -1 in listed:
        own = [token for token in listed or () if token >= 0]
        listed = own + _non_speech_tokens(tokenizer)
    control = {tokens[name] for name in _SPECIAL_TOKENS if name != "end_of_text"}
    control |= set(range(tokens["timestamp_begin"] + 1501, sizes.vocab))
    return sorted({int(token) for token in listed if token < sizes.vocab} | control)


def _suppressed_at_begin(
    tokenizer: Tokenizer, tokens: Mapping[str, int], config: Mapping[str, Any]
) -> list[int]:
    """Tokens that no transcript begins with: a blank, and its end."""
    listed = config.get("begin_suppress_tokens")
    if listed is None:
        listed = [*_encode(tokenizer, " "), tokens["end_of_text"]]
    return sorted({int(token) for token in listed})


def _non_speech_tokens(tokenizer: Tokenizer) -> list[int]:
    """Symbols that announce a speaker or a sound, dashes and quotes that begin a word."""
    found = {_encode(tokenizer, " -")[0], _encode(tokenizer, " '")[0]}
    for symbol in (*_SYMBOLS, *_MUSIC):
        for spelling in (symbol, f" {symbol}"):
            ids = _encode(tokenizer, spelling)
            if len(ids) == 1 or symbol in _MUSIC:
                found.add(ids[0])
    return sorted(found)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
