"""Whisper checkpoints of the true sizes with random weights, in Hugging Face's layout, made without
any download.

The weights are scaled so that greedy decoding doesn't collapse onto one token: cross-attention
looks at the clip, and every step depends on the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from export.whisper_openai import load_openai_tokenizer

SEED: Final = 20


@dataclass(frozen=True)
class Size:
    """Dimensions of a published Whisper."""

    d_model: int
    heads: int
    layers: int
    mels: int = 80
    decoder_layers: int | None = None
    multilingual: bool = True
    languages: int = 99

    @property
    def vocab(self) -> int:
        """51,864 English-only, 51,865 multilingual, 51,866 with Cantonese."""
        return 51_765 + self.languages + int(self.multilingual)


SIZES: Final = {
    "nano": Size(128, 4, 2),
    "nano.en": Size(128, 4, 2, multilingual=False),
    "nano-v3": Size(128, 4, 2, mels=128, languages=100),
    "tiny": Size(384, 6, 4),
    "base": Size(512, 8, 6),
    "large-v3-turbo": Size(1280, 20, 32, mels=128, decoder_layers=4, languages=100),
}
"""Published sizes, and three small ones with the vocabularies that Whisper comes in."""


def write_checkpoint(folder: Path, name: str) -> Path:
    """Writes a random checkpoint of the size `name` into `folder` and returns it."""
    size = SIZES[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_openai_tokenizer(size.vocab)
    model = random_model(size)
    model.generation_config = _generation_config(size, tokenizer)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=size.mels).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def random_model(size: Size) -> WhisperForConditionalGeneration:
    """A seeded random model in evaluation mode."""
    torch.manual_seed(SEED)
    end_of_text = 50257 if size.multilingual else 50256
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=size.vocab,
            num_mel_bins=size.mels,
            d_model=size.d_model,
            encoder_layers=size.layers,
            decoder_layers=size.decoder_layers or size.layers,
            encoder_attention_heads=size.heads,
            decoder_attention_heads=size.heads,
            encoder_ffn_dim=4 * size.d_model,
            decoder_ffn_dim=4 * size.d_model,
            pad_token_id=end_of_text,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            decoder_start_token_id=end_of_text + 1,
        )
    )
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "embed" not in parameter_name:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        decoder = model.get_decoder()
        decoder.embed_tokens.weight.normal_(0.0, 0.03)
        decoder.embed_positions.weight.normal_(0.0, 0.5)
        for layer in decoder.layers:
            layer.encoder_attn.q_proj.weight.mul_(3.0)
    return model.eval()


def _generation_config(size: Size, tokenizer: Tokenizer) -> GenerationConfig:
    end_of_text = tokenizer.token_to_id("<|endoftext|>")
    return GenerationConfig(
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        bos_token_id=end_of_text,
        decoder_start_token_id=end_of_text + 1,
        is_multilingual=size.multilingual,
        max_length=448,
        no_timestamps_token_id=tokenizer.token_to_id("<|notimestamps|>"),
        alignment_heads=[[size.layers - 1, 0], [size.layers - 1, 2], [size.layers - 2, 1]],
    )
