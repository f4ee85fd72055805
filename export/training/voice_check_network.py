"""The voice check: whether what passes for speech is a voice; its training and its graph."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from export.training import frame_network
from export.training.augment import add_noise, coloured_noise, equalise, lowpass, rms
from export.training.frame_network import (
    FRAME_SAMPLES,
    FrameNetwork,
    context_s,
    learning_rate,
)
from export.training.overlap_mixtures import SPEECH_LEVEL, Condition, add_room, mix
from export.training.speaker_voices import Takes
from export.training.tunes import wordless_sound

CLIP_FRAMES = 100

_LOOKS = (4, 8, 12)
_WIDTH = 24
_DILATIONS = (1, 2, 4, 8)

CONTEXT_S = context_s(_LOOKS, _DILATIONS)
"""How far to either side a frame's answer hears."""

_SPEECH = Condition(
    reverb=0.3, telephone=0.4, noise=0.9, colour=0.5, snr_db=(-2.0, 35.0), disturbance=0.0
)
_REAL_SHARE = 0.8
_WORD_ALONE = 0.35
_OVER_TUNE = 0.2
_OVER_TUNE_DB = (6.0, 30.0)
_LEVEL_JITTER_DB = 6.0
_AUDIBLE = 0.1  # of a wordless sound's own level: pauses between notes teach nothing
_CERTAINTY = 0.99
_FLOOR = 2e-4


class VoiceCheck(FrameNetwork):
    """Whether there is a voice, frame by frame."""

    def __init__(self) -> None:
        super().__init__(_LOOKS, _WIDTH, _DILATIONS, 1)

    def scores(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of a voice: (batch, num_frames * 320) → (batch, num_frames)."""
        self.eval()
        with torch.no_grad():
            return cast(NDArray[np.float32], self(torch.from_numpy(audio))[:, 0].numpy())


class _Served(nn.Module):
    def __init__(self, network: VoiceCheck) -> None:
        super().__init__()
        self.network = network

    def forward(self, power: Tensor) -> Tensor:
        return cast(Tensor, self.network.judge(power.unsqueeze(0))[0, 0])


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train."""

    steps: int
    seed: int = 0
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class Sound:
    """Audio, and which of its frames are to be judged.

    Attributes:
        samples: float32, shape (num_frames * 320,), 16 kHz, what is to be judged at about -26 dB.
        asked: bool, shape (num_frames,).
    """

    samples: NDArray[np.float32]
    asked: NDArray[np.bool_]


def train(
    real: Mapping[str, Takes], synthetic: Mapping[str, Takes], plan: TrainingPlan
) -> VoiceCheck:
    """Train on speech and on wordless sounds, as many of one as of the other.

    Args:
        real: takes by speaker, spoken four times out of five.
        synthetic: takes by speaker; may be empty.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    network = VoiceCheck()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    is_voice = torch.arange(plan.batch_size) % 2 == 1
    target = torch.where(is_voice, _CERTAINTY, 1 - _CERTAINTY)[:, None].expand(-1, CLIP_FRAMES)
    started_s, losses = time.monotonic(), []
    for step in range(plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * learning_rate(step, plan.steps)
        sounds = [
            (
                speech(synthetic if synthetic and rng.random() >= _REAL_SHARE else real, rng)
                if voice
                else wordless(rng)
            )
            for voice in is_voice.tolist()
        ]
        asked = torch.from_numpy(np.stack([sound.asked for sound in sounds])).float()
        weight = asked / asked.sum(1, keepdim=True).clamp(min=1)
        network.train()
        logits = network(torch.from_numpy(np.stack([sound.samples for sound in sounds])))[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
        loss = loss / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(
                f"step {step}  {time.monotonic() - started_s:.0f} s  "
                f"loss {np.mean(losses[-50:]):.3f}",
                flush=True,
            )
    return network


def speech(voices: Mapping[str, Takes], rng: np.random.Generator) -> Sound:
    """A word alone or a stretch of conversation, noisy, now and then over a tune."""
    made = _word(voices, rng) if rng.random() < _WORD_ALONE else _conversation(voices, rng)
    if made.asked.any() and rng.random() < _OVER_TUNE:
        level = rms(made.samples[np.repeat(made.asked, FRAME_SAMPLES)])
        below = wordless_sound(len(made.samples), rng)
        samples = add_noise(made.samples, below, rng.uniform(*_OVER_TUNE_DB), level)
        return Sound(samples.astype(np.float32), made.asked)
    return made


def wordless(rng: np.random.Generator) -> Sound:
    """A tune or another sound without words, in rooms, through lines, over noise."""
    num_samples = CLIP_FRAMES * FRAME_SAMPLES
    sound = wordless_sound(num_samples, rng)
    if rng.random() < _SPEECH.reverb:
        sound = add_room(sound, rng)
    if rng.random() < _SPEECH.colour:
        sound = equalise(sound, rng)
    loud = np.sqrt(np.mean(np.square(sound.reshape(CLIP_FRAMES, -1)), axis=1))
    asked = loud > _AUDIBLE * rms(sound)
    if rng.random() < 0.5:
        sound = add_noise(sound, coloured_noise(num_samples, rng), rng.uniform(5, 40))
    if rng.random() < _SPEECH.telephone:
        sound = lowpass(sound, rng.uniform(3200, 3900))
    return Sound(_level(sound, asked, rng), asked)


def write_onnx(network: VoiceCheck, path: Path) -> None:
    """Write the graph that is served: `power` (num_frames, 201) → `score` (num_frames,)."""
    frame_network.write_onnx(_Served(network), "score", path)


def _conversation(voices: Mapping[str, Takes], rng: np.random.Generator) -> Sound:
    corpora = sorted({name.partition("-")[0] for name in voices})
    corpus = corpora[rng.integers(len(corpora))]
    cast_of = {name: takes for name, takes in voices.items() if name.startswith(corpus)}
    stretch = mix(cast_of, CLIP_FRAMES, rng, _SPEECH)
    return Sound(stretch.samples, stretch.voices > 0)


def _word(voices: Mapping[str, Takes], rng: np.random.Generator) -> Sound:
    num_samples = CLIP_FRAMES * FRAME_SAMPLES
    takes = voices[sorted(voices)[rng.integers(len(voices))]]
    take = takes[rng.integers(len(takes))][:num_samples]
    start = int(rng.integers(num_samples - len(take) + 1))
    track = np.zeros(num_samples, np.float32)
    track[start : start + len(take)] = take
    asked = np.zeros(CLIP_FRAMES, bool)
    asked[start // FRAME_SAMPLES : -(-(start + len(take)) // FRAME_SAMPLES)] = True
    level = rms(take)
    if rng.random() < _SPEECH.reverb:
        track = add_room(track, rng)
    if rng.random() < _SPEECH.colour:
        track = equalise(track, rng)
    if rng.random() < _SPEECH.noise:
        noise = coloured_noise(num_samples, rng)
        track = add_noise(track, noise, rng.uniform(*_SPEECH.snr_db), level)
    if rng.random() < _SPEECH.telephone:
        track = lowpass(track, rng.uniform(3200, 3900))
    return Sound(_level(track, asked, rng), asked)


def _level(
    samples: NDArray[np.float32], asked: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float32]:
    """To about the level that a region has in serving, and never digitally silent."""
    jitter = 10 ** (rng.uniform(-_LEVEL_JITTER_DB, _LEVEL_JITTER_DB) / 20)
    level = rms(samples[np.repeat(asked, FRAME_SAMPLES)]) if asked.any() else rms(samples)
    heard = samples * np.float32(SPEECH_LEVEL * jitter / level)
    return (heard + rng.standard_normal(len(heard)) * _FLOOR).astype(np.float32)
