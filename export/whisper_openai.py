"""openai-whisper's own `.pt` files, read with torch into the Hugging Face layout."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.convert_slow_tokenizer import TikTokenConverter

from export.errors import CheckpointError, DependencyError
from export.quiet import quiet

MULTILINGUAL_VOCAB: Final = 51865
"""From this size on, an openai-whisper model is multilingual (whisper/model.py,
`is_multilingual`)."""

_TOKENS_WITHOUT_LANGUAGES: Final = 51765
"""Vocabulary less languages, for multilingual models one less still (whisper/model.py,
`num_languages`)."""

_RENAMED: Final = (
    ("blocks.", "layers."),
    ("cross_attn_ln.", "encoder_attn_layer_norm."),
    ("attn_ln.", "self_attn_layer_norm."),
    ("mlp_ln.", "final_layer_norm."),
    ("cross_attn.", "encoder_attn."),
    (".attn.", ".self_attn."),
    ("mlp.0.", "fc1."),
    ("mlp.2.", "fc2."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
    ("decoder.token_embedding.", "decoder.embed_tokens."),
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
)
"""openai-whisper's part of a parameter's name → Hugging Face's, applied in this order."""

ALIGNMENT_HEADS: Final[dict[str, list[list[int]]]] = {
    "tiny.en": [[1, 0], [2, 0], [2, 5], [3, 0], [3, 1], [3, 2], [3, 3], [3, 4]],
    "tiny": [[2, 2], [3, 0], [3, 2], [3, 3], [3, 4], [3, 5]],
    "base.en": [[3, 3], [4, 7], [5, 1], [5, 5], [5, 7]],
    "base": [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]],
    "small.en": [
        [6, 6],
        [7, 0],
        [7, 3],
        [7, 8],
        [8, 2],
        [8, 5],
        [8, 7],
        [9, 0],
        [9, 4],
        [9, 8],
        [9, 10],
        [10, 0],
        [10, 1],
        [10, 2],
        [10, 3],
        [10, 6],
        [10, 11],
        [11, 2],
        [11, 4],
    ],
    "small": [[5, 3], [5, 9], [8, 0], [8, 4], [8, 7], [8, 8], [9, 0], [9, 7], [9, 9], [10, 5]],
    "medium.en": [
        [11, 4],
        [14, 1],
        [14, 12],
        [14, 14],
        [15, 4],
        [16, 0],
        [16, 4],
        [16, 9],
        [17, 12],
        [17, 14],
        [18, 7],
        [18, 10],
        [18, 15],
        [20, 0],
        [20, 3],
        [20, 9],
        [20, 14],
        [21, 12],
    ],
    "medium": [[13, 15], [15, 4], [15, 15], [16, 1], [20, 0], [23, 4]],
    "large-v1": [
        [9, 19],
        [11, 2],
        [11, 4],
        [11, 17],
        [22, 7],
        [22, 11],
        [22, 17],
        [23, 2],
        [23, 15],
    ],
    "large-v2": [
        [10, 12],
        [13, 17],
        [16, 11],
        [16, 12],
        [16, 13],
        [17, 15],
        [17, 16],
        [18, 4],
        [18, 11],
        [18, 19],
        [19, 11],
        [21, 2],
        [21, 3],
        [22, 3],
        [22, 9],
        [22, 12],
        [23, 5],
        [23, 7],
        [23, 13],
        [25, 5],
        [26, 1],
        [26, 12],
        [27, 15],
    ],
    "large-v3": [
        [7, 0],
        [10, 17],
        [12, 18],
        [13, 12],
        [16, 1],
        [17, 14],
        [19, 11],
        [21, 4],
        [24, 1],
        [25, 6],
    ],
    "large": [
        [7, 0],
        [10, 17],
        [12, 18],
        [13, 12],
        [16, 1],
        [17, 14],
        [19, 11],
        [21, 4],
        [24, 1],
        [25, 6],
    ],
    "large-v3-turbo": [[2, 4], [2, 11], [3, 3], [3, 6], [3, 11], [3, 14]],
    "turbo": [[2, 4], [2, 11], [3, 3], [3, 6], [3, 11], [3, 14]],
}
"""[layer, head] pairs whose cross-attention follows the audio, as openai-whisper publishes them
(`_ALIGNMENT_HEADS`); its `.pt` files don't carry them. Keyed by the file's stem."""


def load_openai_model(path: Path) -> WhisperForConditionalGeneration:
    """Loads a `.pt` file as a float32 model in evaluation mode.

    Raises:
        CheckpointError: the file isn't an openai-whisper checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        dims: dict[str, int] = content["dims"]
        weights: dict[str, Tensor] = content["model_state_dict"]
        config = _config(dims)
    except (OSError, RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} isn't an openai-whisper checkpoint: {error}") from error
    model = WhisperForConditionalGeneration._from_config(config, attn_implementation="eager")
    result = model.load_state_dict(
        {_renamed(name): tensor.float() for name, tensor in weights.items()}, strict=False
    )
    missing = set(result.missing_keys) - {"proj_out.weight"}
    if missing or result.unexpected_keys:
        raise CheckpointError(
            f"{path} isn't a complete openai-whisper checkpoint: missing {sorted(missing)}, "
            f"unexpected {sorted(result.unexpected_keys)}"
        )
    model.tie_weights()
    return model.eval()


def load_openai_tokenizer(vocab: int) -> Tokenizer:
    """Builds the tokenizer of an openai-whisper model with `vocab` rows of logits.

    Raises:
        DependencyError: openai-whisper, which carries the vocabularies, isn't installed. A
            tokenizer.json beside the file makes it unnecessary.
    """
    try:
        from whisper import tokenizer as openai
    except ModuleNotFoundError as error:
        raise DependencyError(error) from error
    multilingual = vocab >= MULTILINGUAL_VOCAB
    name = "multilingual" if multilingual else "gpt2"
    languages = vocab - _TOKENS_WITHOUT_LANGUAGES - int(multilingual)
    with quiet():  # it leaves the vocabulary's file open
        encoding = openai.get_encoding(name, languages)
    specials: dict[str, int] = encoding._special_tokens
    ranks = Path(openai.__file__).with_name("assets") / f"{name}.tiktoken"
    converter = TikTokenConverter(
        vocab_file=str(ranks),
        pattern=encoding._pat_str,
        additional_special_tokens=sorted(specials, key=lambda token: specials[token]),
    )
    built: Tokenizer = converter.converted()
    return built


def _config(dims: dict[str, int]) -> WhisperConfig:
    multilingual = dims["n_vocab"] >= MULTILINGUAL_VOCAB
    end_of_text = 50257 if multilingual else 50256
    sizes: dict[str, Any] = {
        "vocab_size": dims["n_vocab"],
        "num_mel_bins": dims["n_mels"],
        "d_model": dims["n_audio_state"],
        "encoder_layers": dims["n_audio_layer"],
        "encoder_attention_heads": dims["n_audio_head"],
        "decoder_layers": dims["n_text_layer"],
        "decoder_attention_heads": dims["n_text_head"],
        "encoder_ffn_dim": 4 * dims["n_audio_state"],
        "decoder_ffn_dim": 4 * dims["n_text_state"],
        "max_source_positions": dims["n_audio_ctx"],
        "max_target_positions": dims["n_text_ctx"],
    }
    specials = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end_of_text)
    return WhisperConfig(**sizes, **specials, decoder_start_token_id=end_of_text + 1)


def _renamed(name: str) -> str:
    """openai-whisper's parameter name as Hugging Face calls it."""
    if name.endswith("positional_embedding"):
        return f"model.{name.split('.')[0]}.embed_positions.weight"
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return f"model.{name}"
