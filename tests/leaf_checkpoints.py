"""Small emotion checkpoints with random weights, in each layout that the hub has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
)

from benchmarks.leaf_weights import LABELLED, write_classifier

SMALL: Final[dict[str, Any]] = {
    **LABELLED,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 32,
}
"""A network of the true shape, small enough for a test that runs often."""

LAYER_NORM: Final[dict[str, Any]] = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
"""The feature extractor of wav2vec2's large checkpoints: layer norm, stable transformer."""


def save_wav2vec2(folder: Path, *, layer_norm: bool = False) -> Path:
    """Saves a small Wav2Vec2ForSequenceClassification."""
    config = Wav2Vec2Config(**SMALL, **(LAYER_NORM if layer_norm else {}))
    return write_classifier(Wav2Vec2ForSequenceClassification(config), folder)


def save_hubert(folder: Path) -> Path:
    """Saves a small HubertForSequenceClassification with the weighted sum of layers that SUPERB's
    checkpoints have."""
    config = HubertConfig(**SMALL, use_weighted_layer_sum=True)
    return write_classifier(HubertForSequenceClassification(config), folder)


def save_wavlm(folder: Path) -> Path:
    """Saves a small WavLMForSequenceClassification."""
    return write_classifier(WavLMForSequenceClassification(WavLMConfig(**SMALL)), folder)
