"""Randomly initialised checkpoints of the emotion and speaker models in the formats that the hub
serves them in.

Random weights answer nothing sensible, but they exercise every step from a checkpoint to a served
model at the true sizes, with no download.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
)

from export import torchaudio_stub

LABELS = ("neutral", "happy", "angry", "sad")

SMALL = {
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


def save_wav2vec2(folder: Path, *, full_size: bool = False, layer_norm: bool = False) -> Path:
    """Saves a Wav2Vec2ForSequenceClassification; full size is wav2vec2-base: 12 layers of 768, 95 M
    parameters.

    `layer_norm` makes the feature extractor of the large checkpoints (layer norm, stable
    transformer).
    """
    variant = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    config = Wav2Vec2Config(
        **_labels(), **({} if full_size else SMALL), **(variant if layer_norm else {})
    )
    return _save(Wav2Vec2ForSequenceClassification(config), folder)


def save_hubert(folder: Path) -> Path:
    """Saves a small HubertForSequenceClassification with the weighted sum of layers that SUPERB's
    checkpoints have."""
    config = HubertConfig(**_labels(), **SMALL, use_weighted_layer_sum=True)
    return _save(HubertForSequenceClassification(config), folder)


def save_wavlm(folder: Path) -> Path:
    """Saves a small WavLMForSequenceClassification."""
    return _save(WavLMForSequenceClassification(WavLMConfig(**_labels(), **SMALL)), folder)


def _labels() -> dict[str, object]:
    return {
        "num_labels": len(LABELS),
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: index for index, label in enumerate(LABELS)},
    }


def _save(model: PreTrainedModel, folder: Path) -> Path:
    """Spreads the matrices so that clips differ in their logits, which transformers' small initial
    weights hide."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


HYPERPARAMS = """\
# The keys of speechbrain/spkrec-ecapa-voxceleb's own file.
pretrained_path: example/not-on-this-machine
n_mels: 80
sample_rate: 16000
n_channels: 1
out_n_neurons: {speakers}
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: {channels}
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 128
    lin_neurons: {dim}
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: {dim}
    out_neurons: !ref <out_n_neurons>
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


def save_ecapa(
    folder: Path, *, channels: Sequence[int] = (1024,) * 4 + (3072,), dim: int = 192
) -> Path:
    """Saves a SpeechBrain folder; the defaults are spkrec-ecapa-voxceleb's: 1024 channels, 20.8 M
    parameters."""
    torchaudio_stub.install()
    from speechbrain.dataio.encoder import CategoricalEncoder
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier

    folder.mkdir(parents=True, exist_ok=True)
    encoder = ECAPA_TDNN(80, channels=list(channels), lin_neurons=dim)
    _fill_batch_norms(encoder)
    speakers = CategoricalEncoder()
    speakers.update_from_iterable(["first", "second", "third"])
    torch.save(encoder.state_dict(), folder / "embedding_model.ckpt")
    torch.save(Classifier(dim, out_neurons=3).state_dict(), folder / "classifier.ckpt")
    statistics = {"count": 1, "glob_mean": torch.zeros(dim), "glob_std": torch.ones(dim)}
    torch.save(statistics, folder / "mean_var_norm_emb.ckpt")
    speakers.save(str(folder / "label_encoder.txt"))
    text = HYPERPARAMS.format(channels=list(channels), dim=dim, speakers=3)
    (folder / "hyperparams.yaml").write_text(text)
    return folder


def _fill_batch_norms(encoder: torch.nn.Module) -> None:
    """Runs noise at the level of mean-free log-mel frames through it, so that activations stay in a
    trained range."""
    generator = torch.Generator().manual_seed(0)
    encoder.train()
    with torch.no_grad():
        for _ in range(3):
            encoder(15 * torch.randn(4, 100, 80, generator=generator))
    encoder.eval()
