"""A Hugging Face Whisper checkpoint as openai-whisper's own `.pt` file. Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from transformers import WhisperForConditionalGeneration

_RENAMED: Final = (
    ("layers.", "blocks."),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn_layer_norm", "attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder_attn.", "cross_attn."),
    ("self_attn.", "attn."),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
)
"""Hugging Face's part of a parameter's name → openai-whisper's (whisper/model.py), in order."""


def write_openai(checkpoint: Path, path: Path) -> Path:
    """Writes a Hugging Face folder as `path`, a file for `whisper.load_model`; returns it."""
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype="float32")
    config = model.config
    dimensions = {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }
    weights = {
        _renamed(name.removeprefix("model.")): tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("proj_out")
    }
    staging = path.with_suffix(".part")
    torch.save({"dims": dimensions, "model_state_dict": weights}, staging)
    return staging.rename(path)


def _renamed(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name
