"""The tiny Wav2Vec2ForSequenceClassification and the heads that exist only while it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from export.training.corpora import SAMPLE_RATE_HZ
from export.training.emotion_data import LABELS
from export.training.emotion_features import NUM_MELS

_FIRST_KERNEL = 400
_PHASES = 4
_NUM_FILTERS = 40


@dataclass(frozen=True)
class Hearing:
    """What the network says about a batch of windows.

    Attributes:
        logits: float32, shape (batch, 7).
        statistics: float32, shape (batch, num_statistics), standardised.
        pitch: float32, shape (batch, num_frames, 2): standardised log2 Hz, and the logit of
            being voiced.
    """

    logits: Tensor
    statistics: Tensor
    pitch: Tensor


def emotion_config() -> Wav2Vec2Config:
    """Convolutions down to a frame every 40 ms, two transformer layers: 0.35 million weights.

    Layer norm in the convolutions, not group norm: that would divide every channel by its own level
    over the utterance, and take away the spectral tilt that tells anger from sadness.
    """
    return Wav2Vec2Config(
        conv_dim=(_NUM_FILTERS * _PHASES, 64, 64),
        conv_kernel=(_FIRST_KERNEL, 3, 3),
        conv_stride=(160, 2, 2),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=288,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=128,
        hidden_dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.1,
        final_dropout=0.1,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )


def new_classifier() -> Wav2Vec2ForSequenceClassification:
    """A fresh network whose first two convolutions already are a mel-spaced magnitude filterbank.

    Layer 1 holds 40 Gabor filters (Zeghidour et al., LEAF, 2021) in four phases each; layer 2
    starts by summing the half-wave rectified phases, which gives each filter's magnitude.
    """
    model = Wav2Vec2ForSequenceClassification(emotion_config())
    first, second = (layer.conv for layer in model.wav2vec2.feature_extractor.conv_layers[:2])
    with torch.no_grad():
        first.weight.copy_(_gabor_filters()[:, None])
        first.bias.zero_()
        second.weight.mul_(0.2)
        second.bias.zero_()
        for band in range(_NUM_FILTERS):
            second.weight[band, band * _PHASES : (band + 1) * _PHASES] += 0.12
    return model


class EmotionTrainee(nn.Module):
    """The classifier with auxiliary heads, in two halves: the convolutions and what follows."""

    def __init__(self, num_statistics: int) -> None:
        super().__init__()
        self.classifier = new_classifier()
        config = self.classifier.config
        self.spectrum = nn.Linear(config.hidden_size, 2 + NUM_MELS)
        self.pitch = nn.Linear(config.hidden_size, 2)
        self.statistics = nn.Linear(config.classifier_proj_size, num_statistics)

    def hear(self, audio: Tensor) -> Tensor:
        """The ear alone.

        Args:
            audio: float32, shape (batch, num_samples), zero mean and unit variance per row.

        Returns:
            float32, shape (batch, num_frames, 64), a frame every 40 ms.
        """
        return self.classifier.wav2vec2.feature_extractor(audio).transpose(1, 2)

    def describe(self, heard: Tensor) -> Tensor:
        """Pitch, logit of voicing and log-mels of single frames: (batch, num_frames, 42)."""
        return self.spectrum(self.classifier.wav2vec2.feature_projection(heard)[0])

    def forward(self, heard: Tensor) -> Hearing:
        """Judge what was heard: ``forward(hear(x)).logits`` are ``classifier(x).logits``."""
        network = self.classifier.wav2vec2
        context = network.encoder(network.feature_projection(heard)[0]).last_hidden_state
        pooled = self.classifier.projector(context).mean(1)
        return Hearing(
            logits=self.classifier.classifier(pooled),
            statistics=self.statistics(pooled),
            pitch=self.pitch(context),
        )


def _gabor_filters() -> Tensor:
    """Unit-energy Gaussian-windowed cosines, mel-spaced: float32, shape (160, 400)."""
    mels = torch.linspace(_to_mel(60.0), _to_mel(7600.0), _NUM_FILTERS + 2)
    edges_hz = 700 * (10 ** (mels / 2595) - 1)
    time_s = (torch.arange(_FIRST_KERNEL) - _FIRST_KERNEL / 2) / SAMPLE_RATE_HZ
    filters = []
    for low_hz, centre_hz, high_hz in edges_hz.unfold(0, 3, 1).tolist():
        bandwidth_hz = max(60.0, (high_hz - low_hz) / 2)
        # A Gaussian of this deviation is 0.8 bandwidths wide on either side; 8 ms fill the kernel.
        deviation_s = min(0.008, 0.8 / (math.pi * bandwidth_hz))
        envelope = torch.exp(-0.5 * (time_s / deviation_s) ** 2)
        for phase in range(_PHASES):
            wave = torch.cos(2 * math.pi * centre_hz * time_s + phase * math.pi / 2)
            filters.append(envelope * wave / envelope.norm())
    return torch.stack(filters)


def _to_mel(frequency_hz: float) -> float:
    return 2595 * math.log10(1 + frequency_hz / 700)
