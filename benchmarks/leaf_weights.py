"""Emotion and speaker checkpoints of the published sizes with random weights.

wav2vec2-base with a classifier of four emotions (`superb/wav2vec2-base-superb-er`), and ECAPA-TDNN
with 1,024 channels (`speechbrain/spkrec-ecapa-voxceleb`). Their time doesn't hang on the values,
and they exercise every step from a checkpoint to a served model with no download.
Needs torch, transformers and SpeechBrain.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from export import torchaudio_stub
from export.speechbrain_folder import NUM_MELS, write_speechbrain_folder

SEED: Final = 20
LABELS: Final = ("neutral", "happy", "angry", "sad")
LABELLED: Final[dict[str, Any]] = {
    "num_labels": len(LABELS),
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: index for index, label in enumerate(LABELS)},
}
"""What every classifier's configuration says of its classes."""

SPEAKERS: Final = tuple(f"speaker{number}" for number in range(8))


def write_emotion(folder: Path) -> Path:
    """Writes a Hugging Face folder with wav2vec2-base, 12 layers of 768; returns it."""
    return write_classifier(Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**LABELLED)), folder)


def write_classifier(model: PreTrainedModel, folder: Path) -> Path:
    """Writes a classifier of sound as a Hugging Face folder; returns it.

    The matrices are spread, so that clips differ in their logits, which transformers' small initial
    weights hide.
    """
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    return folder


def write_speaker(
    folder: Path, *, channels: Sequence[int] = (1024,) * 4 + (3072,), dimension: int = 192
) -> Path:
    """Writes a SpeechBrain folder; returns it. The defaults are spkrec-ecapa-voxceleb's."""
    torchaudio_stub.install()
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier

    architecture = {
        "channels": list(channels),
        "kernel_sizes": [5, 3, 3, 3, 1],
        "dilations": [1, 2, 3, 4, 1],
        "attention_channels": 128,
        "lin_neurons": dimension,
    }
    torch.manual_seed(SEED)
    encoder = ECAPA_TDNN(NUM_MELS, **architecture).train()
    with torch.no_grad():  # batch norms learn the range that log-mel frames bring about
        for _ in range(3):
            encoder(15 * torch.randn(4, 100, NUM_MELS))
    write_speechbrain_folder(
        folder,
        encoder.eval(),
        Classifier(dimension, out_neurons=len(SPEAKERS)),
        architecture=architecture,
        class_names=SPEAKERS,
        pretrained_path="overridden-by-whoever-loads-it",
    )
    return folder
