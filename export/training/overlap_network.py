"""The overlap detector: log-mel bands, a small convolutional network, its training and its graph.

What gives two voices away are two sets of harmonics: a window of 50 ms tells them apart where
Whisper's 25 ms don't, and nothing above 4 kHz is looked at, so that a telephone sounds like a room.
Dilated convolutions look 1.2 s to either side (Bai et al., "An Empirical Evaluation of Generic
Convolutional and Recurrent Networks for Sequence Modeling", 2018), without a state that long
recordings would have to carry from block to block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from export.quiet import quiet
from export.training.corpora import SAMPLE_RATE_HZ
from export.training.overlap_mixtures import FRAME_SAMPLES, MOST_AT_ONCE, mix
from export.training.speaker_voices import Takes

_WINDOW_SAMPLES = 800
_BINS = 201  # up to 4 kHz
_MELS = 96
_WIDTH = 64
_DILATIONS = (1, 2, 4, 8, 16)
_KERNEL = 5
_POWER_FLOOR = 1e-5  # 20 dB below the bands of speech at -26 dB full scale fade into it
_DROPOUT = 0.1

CONTEXT_S = (_KERNEL // 2 * sum(_DILATIONS) + 4) * FRAME_SAMPLES / SAMPLE_RATE_HZ
"""How far to either side a frame's answer hears."""

CLIP_FRAMES = 200
_REAL_SHARE = 0.8
_WARM_UP_STEPS = 30
_OPSET = 18


class LogBands(nn.Module):
    """Audio to 96 log-mel bands up to 4 kHz, one column per 20 ms."""

    bins: Tensor
    times: Tensor
    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filter_bank(
            num_frequency_bins=_WINDOW_SAMPLES // 2 + 1,
            num_mel_filters=_MELS,
            min_frequency=60.0,
            max_frequency=SAMPLE_RATE_HZ / 4,
            sampling_rate=SAMPLE_RATE_HZ,
            norm=None,
            mel_scale="htk",
        )
        self.register_buffer("bins", torch.arange(_BINS).float().unsqueeze(1))
        self.register_buffer("times", torch.arange(_WINDOW_SAMPLES).float())
        self.register_buffer("window", torch.hann_window(_WINDOW_SAMPLES))
        self.register_buffer("filters", torch.from_numpy(filters[:_BINS].T.copy()).float())

    def forward(self, audio: Tensor) -> Tensor:
        """float32, (batch, num_frames * 320) → float32, (batch, 96, num_frames).

        The Fourier transform is a convolution whose kernel is computed in the graph: onnxruntime
        folds it when it loads, and the file is 1.3 MB smaller.
        """
        turns = torch.remainder(self.bins * self.times, float(_WINDOW_SAMPLES))
        angle = turns * (2 * math.pi / _WINDOW_SAMPLES)
        kernel = torch.cat([torch.cos(angle) * self.window, torch.sin(angle) * self.window])
        side = (_WINDOW_SAMPLES - FRAME_SAMPLES) // 2
        padded = F.pad(audio.unsqueeze(1), (side, side))
        real, imaginary = F.conv1d(padded, kernel.unsqueeze(1), stride=FRAME_SAMPLES).chunk(2, 1)
        power = self.filters @ (real * real + imaginary * imaginary)
        return torch.log10(power / _WINDOW_SAMPLES + _POWER_FLOOR)


class OverlapNetwork(nn.Module):
    """How many speak at once, frame by frame: nobody, one, two or more."""

    def __init__(self) -> None:
        super().__init__()
        self.bands = LogBands()
        self.scale = nn.BatchNorm2d(1)
        sizes = (1, 16, 24, 32)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(sizes):
            layers += [
                nn.Conv2d(inner, outer, (5, 3), stride=(2, 1), padding=(2, 1), bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(),
            ]
        self.look = nn.Sequential(*layers)
        self.join = nn.Sequential(
            nn.Conv1d(sizes[-1] * _MELS // 8, _WIDTH, 1, bias=False),
            nn.BatchNorm1d(_WIDTH),
            nn.ReLU(),
        )
        self.context = nn.ModuleList(_block(dilation) for dilation in _DILATIONS)
        self.count = nn.Conv1d(_WIDTH, MOST_AT_ONCE + 1, 1)

    def forward(self, audio: Tensor) -> Tensor:
        """Logits of nobody, one, two: (batch, num_frames * 320) → (batch, 3, num_frames)."""
        seen = self.look(self.scale(self.bands(audio).unsqueeze(1)))
        state = self.join(seen.flatten(1, 2))
        for block in self.context:
            state = state + block(state)
        return cast(Tensor, self.count(state))

    def probabilities(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of two or more: (batch, num_frames * 320) → (batch, num_frames)."""
        self.eval()
        with torch.no_grad():
            return cast(
                NDArray[np.float32], self(torch.from_numpy(audio)).softmax(1)[:, -1].numpy()
            )


class _Served(nn.Module):
    """One recording at a time, and only what is asked of it."""

    def __init__(self, network: OverlapNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, audio: Tensor) -> Tensor:
        return cast(Tensor, self.network(audio.unsqueeze(0)).softmax(1)[0, MOST_AT_ONCE])


def _block(dilation: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(
            _WIDTH,
            _WIDTH,
            _KERNEL,
            dilation=dilation,
            padding=_KERNEL // 2 * dilation,
            bias=False,
        ),
        nn.BatchNorm1d(_WIDTH),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
    )


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train."""

    steps: int
    seed: int = 0
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


def train(
    real: Mapping[str, Takes], synthetic: Mapping[str, Takes], plan: TrainingPlan
) -> OverlapNetwork:
    """Train on mixtures of real (and disguised) and of synthetic voices.

    Args:
        real: takes by speaker, spoken in four mixtures out of five.
        synthetic: takes by speaker; may be empty.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    network = OverlapNetwork()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    started_s, losses = time.monotonic(), []
    for step in range(plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * _schedule(step, plan.steps)
        audio, voices = _draw(real, synthetic, plan.batch_size, rng)
        network.train()
        loss = F.cross_entropy(network(audio), voices)
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


def write_onnx(network: OverlapNetwork, path: Path) -> None:
    """Write the graph that is served: `audio` (num_frames * 320,) → `overlap` (num_frames,)."""
    served = _Served(network).eval()
    frames = torch.export.Dim("num_frames", min=1)
    with torch.no_grad(), quiet():
        torch.onnx.export(
            served,
            (torch.zeros(50 * FRAME_SAMPLES),),
            str(path),
            input_names=["audio"],
            output_names=["overlap"],
            dynamic_shapes=({0: FRAME_SAMPLES * frames},),
            dynamo=True,
            opset_version=_OPSET,
            optimize=False,  # it would write the Fourier kernel out
            external_data=False,
            verbose=False,
        )
    _drop_notes(path)


def _drop_notes(path: Path) -> None:
    """The exporter notes at each node which source lines it came from: a fifth of the file."""
    model = onnx.load(str(path))
    for item in (*model.graph.node, *model.graph.value_info):
        del item.metadata_props[:]
    onnx.save(model, str(path))


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to 2% of the learning rate."""
    cosine = 1 + math.cos(math.pi * step / steps)
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.02 + 0.49 * cosine)


def _draw(
    real: Mapping[str, Takes],
    synthetic: Mapping[str, Takes],
    batch_size: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    corpora = [
        {name: takes for name, takes in real.items() if name.startswith(corpus)}
        for corpus in sorted({name.partition("-")[0] for name in real})
    ]
    drawn = []
    for _ in range(batch_size):
        # Voices of one corpus differ in nothing but the voice; of two, in microphone and band too.
        pool = real if rng.random() < 0.4 else corpora[rng.integers(len(corpora))]
        if synthetic and rng.random() >= _REAL_SHARE:
            pool = synthetic
        drawn.append(mix(pool, CLIP_FRAMES, rng))
    audio = torch.from_numpy(np.stack([stretch.samples for stretch in drawn]))
    return audio, torch.from_numpy(np.stack([stretch.voices for stretch in drawn]))
