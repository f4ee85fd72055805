"""Emotion and speaker checkpoints of the published sizes with random weights.

wav2vec2-base with a classifier of four emotions (`superb/wav2vec2-base-superb-er`), and ECAPA-TDNN
with 1,024 channels (`speechbrain/spkrec-ecapa-voxceleb`). Their time doesn't hang on the values.
Needs torch, transformers and SpeechBrain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from export import torchaudio_stub

SEED: Final = 20
LABELS: Final = ("neutral", "happy", "angry", "sad")
_ECAPA: Final[dict[str, Any]] = {
    "channels": [1024, 1024, 1024, 1024, 3072],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 128,
    "lin_neurons": 192,
}
"""hyperparams.yaml of speechbrain/spkrec-ecapa-voxceleb."""

_SPEAKERS: Final = 8
_HYPERPARAMS: Final = """\
pretrained_path: overridden by whoever loads it
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 80
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 80
    channels: {channels}
    kernel_sizes: {kernel_sizes}
    dilations: {dilations}
    attention_channels: {attention_channels}
    lin_neurons: {lin_neurons}
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: {lin_neurons}
    out_neurons: {speakers}
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


def write_emotion(folder: Path) -> Path:
    """Writes a Hugging Face folder; returns it."""
    torch.manual_seed(SEED)
    model = Wav2Vec2ForSequenceClassification(
        Wav2Vec2Config(
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


def write_speaker(folder: Path) -> Path:
    """Writes a SpeechBrain folder; returns it."""
    torchaudio_stub.install()
    from speechbrain.dataio.encoder import CategoricalEncoder
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier

    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    model = ECAPA_TDNN(80, **_ECAPA).train()
    with torch.no_grad():  # batch norms learn the range that log-mel frames bring about
        for _ in range(3):
            model(15 * torch.randn(4, 100, 80))
    dimension = _ECAPA["lin_neurons"]
    names = CategoricalEncoder()
    names.update_from_iterable([f"speaker{number}" for number in range(_SPEAKERS)])
    statistics = {
        "count": 1,
        "glob_mean": torch.zeros(dimension),
        "glob_std": torch.ones(dimension),
    }
    classifier = Classifier(dimension, out_neurons=_SPEAKERS)
    torch.save(model.eval().state_dict(), folder / "embedding_model.ckpt")
    torch.save(classifier.state_dict(), folder / "classifier.ckpt")
    torch.save(statistics, folder / "mean_var_norm_emb.ckpt")
    names.save(str(folder / "label_encoder.txt"))
    hyperparams = _HYPERPARAMS.format(speakers=_SPEAKERS, **_ECAPA)
    (folder / "hyperparams.yaml").write_text(hyperparams)
    return folder
