"""What the tiny Whisper is trained to minimise: tokens, frames, digits and where it listens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from export.training.whisper_data import Batch
from export.training.whisper_model import ALIGNMENT_HEADS, TrainableWhisper
from export.training.whisper_vocabulary import FULL_SIZE, CompactVocabulary

IGNORED = -100
FRAME_WEIGHT, DIGIT_WEIGHT, GUIDE_WEIGHT = 0.3, 0.3, 0.5
# A timestamp's label is spread over its neighbours: a Gaussian of 30 ms, cut at 80 ms.
_SPREAD = torch.arange(-4, 5)
_SPREAD_WEIGHTS = torch.softmax(-0.5 * (_SPREAD / 1.5) ** 2, 0)


@dataclass(frozen=True)
class Losses:
    """One step's losses (scalars) and how many word tokens the model got right (fraction)."""

    tokens: Tensor
    frames: Tensor
    digits: Tensor
    guide: Tensor
    accuracy: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum that is minimised."""
        return (
            self.tokens
            + FRAME_WEIGHT * self.frames
            + DIGIT_WEIGHT * self.digits
            + GUIDE_WEIGHT * self.guide
        )


def full_losses(model: TrainableWhisper, batch: Batch, vocabulary: CompactVocabulary) -> Losses:
    """All losses of the whole model on a batch."""
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(batch.mel, batch.offsets)
        logits, attention = model.decode(encoded, batch.tokens)
        frame_logits = model.frame_head(encoded)
    token_loss, accuracy = token_cross_entropy(logits.float(), batch.labels, vocabulary)
    frame_loss = F.cross_entropy(frame_logits.float().flatten(0, 1), batch.frames.flatten())
    guided = batch.guide.sum(-1) > 0
    heard = (attention[:, list(ALIGNMENT_HEADS)].float() * batch.guide[:, None]).sum(-1).mean(1)
    guide_loss = -(heard[guided] + 1e-4).log().mean() if guided.any() else torch.zeros(())
    digit_loss = digit_cross_entropy(model, encoded.float(), batch)
    return Losses(token_loss, frame_loss, digit_loss, guide_loss, accuracy)


def encoder_losses(model: TrainableWhisper, batch: Batch) -> Losses:
    """The losses that need the encoder alone: frames, and each digit pooled over its known span."""
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.encode(batch.mel, batch.offsets)
        frame_logits = model.frame_head(encoded)
    frame_loss = F.cross_entropy(frame_logits.float().flatten(0, 1), batch.frames.flatten())
    nothing = torch.zeros(())
    digit_loss = digit_cross_entropy(model, encoded.float(), batch)
    return Losses(nothing, frame_loss, digit_loss, nothing, nothing)


def token_cross_entropy(
    logits: Tensor, labels: Tensor, vocabulary: CompactVocabulary
) -> tuple[Tensor, Tensor]:
    """Cross-entropy as it would be over the full vocabulary, and accuracy on word tokens.

    All unused ids share one row, so that row's logit counts as often as there are unused ids.

    Args:
        logits: float32, shape (batch, length, compact vocabulary).
        labels: compact indices, int64, shape (batch, length), IGNORED where there is none.
    """
    known = labels != IGNORED
    logits, labels = logits[known], labels[known]
    copies = torch.zeros(vocabulary.size)
    copies[vocabulary.unused] = math.log(FULL_SIZE - len(vocabulary.ids))
    log_probabilities = (logits + copies).log_softmax(-1)
    first = vocabulary.first_timestamp
    is_time = labels >= first
    neighbours = (labels[:, None] + _SPREAD).clamp(first, vocabulary.unused - 1)
    targets = torch.where(is_time[:, None], neighbours, labels[:, None])
    loss = -(log_probabilities.gather(1, targets) * _SPREAD_WEIGHTS).sum(1).mean()
    right = log_probabilities.argmax(-1) == labels
    return loss, right[~is_time].float().mean()


def digit_cross_entropy(model: TrainableWhisper, encoded: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each spoken digit from the mean of the encoder's states over its span."""
    spoken = batch.digits >= 0
    if not spoken.any():
        return torch.zeros(())
    spans = batch.guide / batch.guide.sum(-1, keepdim=True).clamp_min(1)
    return F.cross_entropy(model.digit_head((spans @ encoded)[spoken]), batch.digits[spoken])
