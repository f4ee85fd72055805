"""Trains an emotion classifier in three stages: an ear, a sense of pitch and timbre, then emotions.

Four hundred clips teach a network their speakers before they teach it emotions. So the convolutions
first learn a denoised log-mel spectrum with pitch, which needs no labels, and stay as they are from
then on. Their answers to some thousand disturbed windows are kept, and the transformer learns from
these: cheap enough for one CPU core.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2ForSequenceClassification

from export.training.corpora import SAMPLE_RATE_HZ, Recording
from export.training.emotion_data import (
    LABELS,
    UNLABELLED,
    Clip,
    draw_windows,
    emotional_clips,
    sampling_weights,
    spoken_strings,
)
from export.training.emotion_features import VOICED
from export.training.emotion_model import EmotionTrainee, Hearing
from export.training.emotion_recipe import Recipe

Progress = Callable[[str], None]

_EAR_WINDOW = SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Heard:
    """What the ear made of every window, and the standardised targets.

    Attributes:
        frames: float16, shape (num_windows, num_frames, 64).
        pitch: float32, shape (num_windows, num_frames, 2): standardised log2 Hz, and
            1 where voiced, else 0.
        statistics: float32, shape (num_windows, 105).
        labels: int64, shape (num_windows,), UNLABELLED for digits.
        weights: float64, shape (num_windows,): probability of being drawn.
    """

    frames: Tensor
    pitch: Tensor
    statistics: Tensor
    labels: Tensor
    weights: Tensor


def train_classifier(
    emotional: Sequence[Recording], digits: Sequence[Recording], recipe: Recipe, progress: Progress
) -> Wav2Vec2ForSequenceClassification:
    """Train on recordings with emotions, and on digits without, which only widen the first stages.

    Returns:
        The exponential moving average of the weights, in evaluation mode.
    """
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    clips = emotional_clips(emotional, recipe.speeds, recipe.max_speed_change, rng)
    clips += spoken_strings(digits, recipe.digit_strings, rng) if digits else []
    progress(f"{len(clips)} clips")
    trainer = Trainer(clips, recipe, rng, progress)
    trainer.train_ear()
    heard = trainer.listen()
    trainer.train_sense(heard)
    return trainer.train_emotion(heard)


class Trainer:
    """The network and the scale of its targets, through the three stages in turn."""

    def __init__(
        self, clips: Sequence[Clip], recipe: Recipe, rng: np.random.Generator, progress: Progress
    ) -> None:
        statistics = torch.from_numpy(np.stack([clip.statistics for clip in clips]))
        octaves = np.concatenate([clip.frames[clip.frames[:, 1] > VOICED, 0] for clip in clips])
        self.statistics_mean = statistics.mean(0)
        # A statistic that is the same in every clip teaches nothing and must not divide by zero.
        self.statistics_std = statistics.std(0).clamp_min(1e-3)
        self.octaves_mean, self.octaves_std = float(octaves.mean()), float(octaves.std())
        self.network = EmotionTrainee(statistics.shape[1])
        self.clips, self.recipe, self.rng, self.progress = clips, recipe, rng, progress

    def train_ear(self) -> None:
        """Teach the convolutions, frame by frame, the clean log-mel spectrum, pitch and voicing."""
        weights = sampling_weights(self.clips)
        extractor = self.network.classifier.wav2vec2.feature_extractor
        projection = self.network.classifier.wav2vec2.feature_projection
        parameters = [
            *extractor.parameters(),
            *projection.parameters(),
            *self.network.spectrum.parameters(),
        ]

        def loss() -> Tensor:
            drawn = self.rng.choice(len(self.clips), 16, p=weights)
            windows = draw_windows([self.clips[index] for index in drawn], self.rng, _EAR_WINDOW)
            described = self.network.describe(self.network.hear(windows.audio))
            targets = _nearest_targets(windows.frames, described.shape[1])
            mels = targets[..., 2:] - targets[..., 2:].mean((1, 2), keepdim=True)
            spectrum = functional.mse_loss(described[..., 2:], mels / 3)
            return spectrum + _pitch_loss(described[..., :2], self._pitch_targets(targets))

        self._optimise("ear", parameters, self.recipe.ear_steps, loss)

    @torch.no_grad()
    def listen(self) -> Heard:
        """Let the ear hear ``windows_per_clip`` windows of every clip."""
        self.network.eval()
        clips = [clip for clip in self.clips for _ in range(self.recipe.windows_per_clip)]
        frames, pitch, statistics, labels = [], [], [], []
        for first in range(0, len(clips), 32):
            windows = draw_windows(clips[first : first + 32], self.rng)
            heard = self.network.hear(windows.audio)
            frames.append(heard.half())
            pitch.append(self._pitch_targets(_nearest_targets(windows.frames, heard.shape[1])))
            statistics.append((windows.statistics - self.statistics_mean) / self.statistics_std)
            labels.append(windows.labels)
        return Heard(
            frames=torch.cat(frames),
            pitch=torch.cat(pitch),
            statistics=torch.cat(statistics).clamp(-3, 3),
            labels=torch.cat(labels),
            weights=torch.from_numpy(sampling_weights(clips)),
        )

    def train_sense(self, heard: Heard) -> None:
        """Teach the transformer pitch and the utterances' statistics."""

        def loss() -> Tensor:
            drawn = self._draw(heard.weights)
            return self._sense_loss(self.network(heard.frames[drawn].float()), heard, drawn)

        self._optimise("sense", self._transformer_parameters(), self.recipe.sense_steps, loss)

    def train_emotion(self, heard: Heard) -> Wav2Vec2ForSequenceClassification:
        """Teach the transformer emotions and return the classifier with averaged weights."""
        is_digits = heard.labels == UNLABELLED
        weights = self._with_digit_share(heard.weights, is_digits)
        labels = _one_hot(heard.labels.masked_fill(is_digits, LABELS.index("neutral")))
        averaged = copy.deepcopy(self.network)
        auxiliary_weight = self.recipe.auxiliary_weight

        def loss() -> Tensor:
            _average(averaged, self.network)
            drawn = self._draw(weights)
            frames, wanted = heard.frames[drawn].float(), labels[drawn]
            if self.rng.random() < 0.5:
                hearing = self.network(frames)
                sense = self._sense_loss(hearing, heard, drawn)
                return self._label_loss(hearing.logits, wanted) + auxiliary_weight * sense
            share = float(self.rng.beta(self.recipe.mixup, self.recipe.mixup))
            partners = self._draw(weights)
            frames = share * frames + (1 - share) * heard.frames[partners].float()
            wanted = share * wanted + (1 - share) * labels[partners]
            return self._label_loss(self.network(frames).logits, wanted)

        self._optimise("emotion", self._transformer_parameters(), self.recipe.emotion_steps, loss)
        return averaged.classifier.eval()

    def _optimise(
        self,
        stage: str,
        parameters: Sequence[nn.Parameter],
        steps: int,
        loss_of: Callable[[], Tensor],
    ) -> None:
        recipe = self.recipe
        optimizer = torch.optim.AdamW(
            parameters, recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.network.train()
        started, losses = time.monotonic(), []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _cosine_with_warmup(step, steps)
            loss = loss_of()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
            if (step + 1) % 100 == 0 or step + 1 == steps:
                elapsed_s, mean_loss = time.monotonic() - started, float(np.mean(losses[-100:]))
                self.progress(f"{stage} {step + 1}/{steps} loss {mean_loss:.3f} {elapsed_s:.0f} s")

    def _transformer_parameters(self) -> list[nn.Parameter]:
        ear = {id(p) for p in self.network.classifier.wav2vec2.feature_extractor.parameters()}
        return [p for p in self.network.parameters() if id(p) not in ear]

    def _with_digit_share(self, weights: Tensor, is_digits: Tensor) -> Tensor:
        if not is_digits.any():
            return weights
        share = self.recipe.digit_share
        emotional, digits = weights * ~is_digits, weights * is_digits
        return (1 - share) * emotional / emotional.sum() + share * digits / digits.sum()

    def _draw(self, weights: Tensor) -> Tensor:
        drawn = self.rng.choice(
            len(weights), self.recipe.batch_size, p=(weights / weights.sum()).numpy()
        )
        return torch.from_numpy(drawn)

    def _sense_loss(self, hearing: Hearing, heard: Heard, drawn: Tensor) -> Tensor:
        statistics = functional.mse_loss(hearing.statistics, heard.statistics[drawn])
        return statistics + _pitch_loss(hearing.pitch, heard.pitch[drawn])

    def _label_loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(logits, wanted, label_smoothing=self.recipe.label_smoothing)

    def _pitch_targets(self, frames: Tensor) -> Tensor:
        octaves = (frames[..., 0] - self.octaves_mean) / self.octaves_std
        return torch.stack([octaves, (frames[..., 1] > VOICED).float()], -1)


def _nearest_targets(frames: Tensor, num_frames: int) -> Tensor:
    """Pick the targets nearest the network's frames.

    Frame j of the network is centred on sample 640 j + 680 (kernels 400, 3, 3; strides 160, 2, 2),
    frame i of the targets on 160 i + 80.
    """
    return frames[:, 4 : 4 + 4 * num_frames : 4]


def _pitch_loss(answer: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of voicing and squared error of pitch where voiced, half each."""
    voiced = target[..., 1]
    voicing = functional.binary_cross_entropy_with_logits(answer[..., 1], voiced)
    error = (answer[..., 0] - target[..., 0]).clamp(-2, 2).square()
    return 0.5 * voicing + 0.5 * (error * voiced).sum() / (voiced.sum() + 1)


def _one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, len(LABELS)).float()


def _average(slow: nn.Module, fast: nn.Module, keep: float = 0.995) -> None:
    with torch.no_grad():
        for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
            old.lerp_(new, 1 - keep)


def _cosine_with_warmup(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 60) * (0.5 * (1 + math.cos(math.pi * step / steps)) * 0.98 + 0.02)
