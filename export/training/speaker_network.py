"""The tiny ECAPA-TDNN: its shape, its features, its training loop, and centred embeddings.

Architecture: Desplanques et al., "ECAPA-TDNN", Interspeech 2020, as SpeechBrain implements it, a
fifth as wide. Loss: additive angular margin (Deng et al., "ArcFace", CVPR 2019), and how far the
embeddings are from a teacher's (`export.training.speaker_teacher`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export import torchaudio_stub
from export.speechbrain_folder import NUM_MELS
from export.training.augment import (
    add_noise,
    add_reverb,
    coloured_noise,
    equalise,
    lowpass,
)
from export.training.corpora import SAMPLE_RATE_HZ
from export.training.speaker_teacher import Distillation, Teacher
from export.training.speaker_voices import Takes, stranger, string_takes

torchaudio_stub.install()

from speechbrain.lobes.features import Fbank  # noqa: E402
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier  # noqa: E402
from speechbrain.nnet.losses import (  # noqa: E402
    AdditiveAngularMargin,
    LogSoftmaxWrapper,
)
from speechbrain.processing.features import InputNormalization  # noqa: E402

EMBEDDING_DIM = 128
ARCHITECTURE = {
    "channels": [224, 224, 224, 224, 672],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 96,
    "res2net_scale": 4,
    "se_channels": 96,
    "lin_neurons": EMBEDDING_DIM,
}

# The window that diarization embeds, and a longer one for whole utterances.
_TRAIN_LENGTHS_S = (1.5, 1.5, 1.5, 1.5, 1.5, 2.5)
_REAL_SHARE = 0.75
# The margin grows from nothing until this share of the training is done: a full margin from the
# start leaves the loss on a plateau for the few thousand steps that there are.
_MARGIN, _SCALE = 0.2, 30.0
_MARGIN_RAMP = 0.6
# A teacher's loss is about 0.4 where that of the classes is 3: ten times as much makes them even.
_TEACHER_WEIGHT = 10.0
_STRANGER_SHARE, _STRANGER = 0.5, -1
# Strangers that are somebody's clip, where there are clips; half of these stay undisguised.
_CLIP_SHARE, _UNDISGUISED_SHARE = 0.75, 0.5
_WARM_UP_STEPS = 60
_EMBED_BATCH = 64


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train; exactly one of ``steps`` and ``minutes`` bounds it."""

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")

    def progress(self, step: int, elapsed_s: float) -> float:
        """Share of the training that is done, in [0, 1]."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, elapsed_s / (60 * (self.minutes or 1.0)))


class SpeakerNetwork:
    """Filterbank, sentence mean normalisation and ECAPA-TDNN, with a classifier for training."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self.fbank = Fbank(n_mels=NUM_MELS)
        self.mean_norm = InputNormalization(norm_type="sentence", std_norm=False)
        self.encoder = ECAPA_TDNN(NUM_MELS, **ARCHITECTURE)
        self.classifier = Classifier(EMBEDDING_DIM, out_neurons=len(self.class_names))

    def features(self, audio: NDArray[np.float32]) -> torch.Tensor:
        """Log-mel filterbank: (batch, num_samples) to (batch, num_frames, 80)."""
        bank = self.fbank(torch.from_numpy(audio))
        return self.mean_norm(bank, torch.ones(len(bank)))

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw embeddings of equally long windows: (n, num_samples) to (n, 128)."""
        self.encoder.eval()
        with torch.no_grad():
            batches = [
                self.encoder(self.features(windows[i : i + _EMBED_BATCH]))[:, 0].numpy()
                for i in range(0, len(windows), _EMBED_BATCH)
            ]
        return np.concatenate(batches) if batches else np.empty((0, EMBEDDING_DIM), np.float32)

    def centre(self, windows: NDArray[np.float32]) -> None:
        """Move the mean embedding of ``windows`` to zero by way of the last layer's bias."""
        mean = torch.from_numpy(self.embed(windows).mean(axis=0))
        with torch.no_grad():
            self.encoder.fc.conv.bias -= mean


class _Voices:
    """Takes of voices, to be drawn from by their index: first the real ones, then the others."""

    def __init__(self, real: Sequence[Takes], synthetic: Sequence[Takes]) -> None:
        self.takes = [*real, *synthetic]
        self._num_real = len(real)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Indices of real voices three times out of four, where there are others."""
        real = rng.integers(self._num_real, size=size)
        if len(self.takes) == self._num_real:
            return real
        synthetic = rng.integers(self._num_real, len(self.takes), size=size)
        return np.where(rng.random(size) < _REAL_SHARE, real, synthetic)


class _Strangers:
    """Windows of somebody without a class: clips as they are or disguised, and disguised voices."""

    def __init__(self, voices: _Voices, clips: Takes) -> None:
        self._voices, self._clips = voices, clips

    def draw(self, num_samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """One window, shape (num_samples,)."""
        if not self._clips or rng.random() >= _CLIP_SHARE:
            (voice,) = self._voices.draw(1, rng)
            return stranger(self._voices.takes[voice], num_samples, rng)
        clip = self._clips[rng.integers(len(self._clips))]
        if rng.random() < _UNDISGUISED_SHARE:
            return string_takes([clip], num_samples, rng)
        return stranger([clip], num_samples, rng)


def train(
    people: Mapping[str, Takes],
    disguised: Mapping[str, Takes],
    synthetic: Mapping[str, Takes],
    clips: Takes,
    plan: TrainingPlan,
    teacher: Teacher,
) -> SpeakerNetwork:
    """Train on voices and by a teacher, then centre on all real and disguised voices.

    Half of the windows are of strangers: clips of whomever, and voices under a disguise that no
    other window has. They have no class, only what the teacher hears in them.

    Args:
        people: takes by class; disguised strangers are made of them three times out of four.
        disguised: takes by class; with ``people``, drawn three times out of four.
        synthetic: takes by class; may be empty.
        clips: each of one voice, whosever it is; may be empty.
        plan: bounds, seed and optimiser settings.
        teacher: hears the windows before they are distorted.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    real = {**people, **disguised}
    network = SpeakerNetwork([*real, *synthetic])
    classes = _Voices([*real.values()], [*synthetic.values()])
    strangers = _Strangers(_Voices([*people.values()], [*synthetic.values()]), clips)
    lesson = Distillation(teacher, EMBEDDING_DIM, _several_windows(classes.takes, rng))
    parameters = [
        *network.encoder.parameters(),
        *network.classifier.parameters(),
        *lesson.parameters(),
    ]
    optimiser = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    start_s, step, losses = time.monotonic(), 0, []
    while (done := plan.progress(step, time.monotonic() - start_s)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * _schedule(step, done)
        labels, windows = _draw_batch(classes, strangers, plan.batch_size, rng)
        embeddings = _hear_distorted(network, windows, rng)
        margin = _MARGIN * min(1.0, done / _MARGIN_RAMP)
        class_loss = _class_loss(network.classifier(embeddings), labels, margin)
        teacher_loss = lesson(embeddings[:, 0], windows)
        optimiser.zero_grad()
        (class_loss + _TEACHER_WEIGHT * teacher_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        step += 1
        losses.append((class_loss.item(), teacher_loss.item()))
        if step % 100 == 0:
            by_class, by_teacher = np.mean(losses[-100:], axis=0)
            print(
                f"step {step}  {done:4.0%}  {time.monotonic() - start_s:.0f} s  "
                f"loss of classes {by_class:.3f}, of the teacher {by_teacher:.3f}",
                flush=True,
            )
    network.centre(_several_windows([*real.values()], rng))
    return network


def distort(audio: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Send one utterance through a random room, microphone, line, noise and gain."""
    if rng.random() < 0.35:
        audio = add_reverb(audio, rng)
    if rng.random() < 0.6:
        audio = equalise(audio, rng)
    if rng.random() < 0.5:
        audio = lowpass(audio, rng.uniform(3200, 4000))
    if rng.random() < 0.8:
        audio = add_noise(audio, coloured_noise(len(audio), rng), snr_db=rng.uniform(8, 45))
    return (audio * 10 ** (rng.uniform(-20, 15) / 20)).astype(np.float32)


def _schedule(step: int, done: float) -> float:
    """Linear warm-up, then a cosine down to 2% of the learning rate."""
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))


def _hear_distorted(
    network: SpeakerNetwork, windows: NDArray[np.float32], rng: np.random.Generator
) -> torch.Tensor:
    """Embeddings for training: (batch, num_samples) to float32, (batch, 1, 128)."""
    distorted = np.stack([distort(window, rng) for window in windows])
    network.encoder.train()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network.encoder(_mask_bands(network.features(distorted), rng))
    return embeddings.float()


def _class_loss(cosines: torch.Tensor, labels: NDArray[np.int64], margin: float) -> torch.Tensor:
    """Additive angular margin loss of the windows that have a class."""
    named = torch.from_numpy(labels != _STRANGER)
    if not named.any():
        return cosines.new_zeros(())
    target = torch.from_numpy(labels)[named, None]
    return LogSoftmaxWrapper(AdditiveAngularMargin(margin, _SCALE))(cosines[named], target)


def _draw_batch(
    classes: _Voices, strangers: _Strangers, batch_size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Labels, shape (batch_size,), and windows of one length, shape (batch_size, num_samples)."""
    num_samples = round(_TRAIN_LENGTHS_S[rng.integers(len(_TRAIN_LENGTHS_S))] * SAMPLE_RATE_HZ)
    labels = classes.draw(batch_size, rng)
    labels[rng.random(batch_size) < _STRANGER_SHARE] = _STRANGER
    windows = [
        (
            strangers.draw(num_samples, rng)
            if label == _STRANGER
            else string_takes(classes.takes[label], num_samples, rng)
        )
        for label in labels
    ]
    return labels, np.stack(windows)


def _several_windows(takes: Sequence[Takes], rng: np.random.Generator) -> NDArray[np.float32]:
    """Twelve windows of each voice, shape (n, num_samples)."""
    num_samples = round(_TRAIN_LENGTHS_S[0] * SAMPLE_RATE_HZ)
    return np.stack([string_takes(own, num_samples, rng) for own in takes for _ in range(12)])


def _mask_bands(features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blank a few neighbouring bands in half of the utterances (Park et al., SpecAugment, 2019)."""
    for row in features:
        if rng.random() < 0.5:
            first = int(rng.integers(0, NUM_MELS - 10))
            row[:, first : first + int(rng.integers(1, 10))] = 0
    return features
