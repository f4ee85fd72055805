"""The overlap detector: how many speak at once; its training and its graph.

What gives two voices away are two sets of harmonics (`export.training.frame_network`).
"""

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
from export.training.frame_network import FrameNetwork, context_s, learning_rate
from export.training.overlap_mixtures import MOST_AT_ONCE, mix
from export.training.speaker_voices import Takes

_LOOKS = (16, 24, 32)
_WIDTH = 64
_DILATIONS = (1, 2, 4, 8, 16)

CONTEXT_S = context_s(_LOOKS, _DILATIONS)
"""How far to either side a frame's answer hears."""

CLIP_FRAMES = 200
_REAL_SHARE = 0.8


class OverlapNetwork(FrameNetwork):
    """How many speak at once, frame by frame: nobody, one, two or more."""

    def __init__(self) -> None:
        super().__init__(_LOOKS, _WIDTH, _DILATIONS, MOST_AT_ONCE + 1)

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

    def forward(self, power: Tensor) -> Tensor:
        return cast(Tensor, self.network.judge(power.unsqueeze(0)).softmax(1)[0, MOST_AT_ONCE])


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
            group["lr"] = plan.learning_rate * learning_rate(step, plan.steps)
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
    """Write the graph that is served: `power` (num_frames, 201) → `overlap` (num_frames,)."""
    frame_network.write_onnx(_Served(network), "overlap", path)


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
