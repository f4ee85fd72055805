"""A small convolutional network that answers for every 20 ms of a recording, and its graph.

What tells voices from each other and from other sounds is how their harmonics move: a window of
50 ms tells them apart where Whisper's 25 ms don't, and nothing above 4 kHz is looked at, so that a
telephone sounds like a room. Dilated convolutions look to either side (Bai et al., "An Empirical
Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling", 2018), without a
state that long recordings would have to carry from block to block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from export.quiet import quiet
from export.training.corpora import SAMPLE_RATE_HZ

FRAME_SAMPLES = 320
"""Samples per answer, 20 ms."""

NUM_BINS = 201
"""Of the spectrum, 20 Hz apart, up to 4 kHz."""

_WINDOW_SAMPLES = 800
_MELS = 96
_KERNEL = 5
_POWER_FLOOR = 1e-5  # 20 dB below the bands of speech at -26 dB full scale fade into it
_DROPOUT = 0.1
_WARM_UP_STEPS = 30
_OPSET = 18


class PowerSpectrum(nn.Module):
    """Audio to power up to 4 kHz, one row per 20 ms; what serves computes it with an FFT."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_WINDOW_SAMPLES))

    def forward(self, audio: Tensor) -> Tensor:
        """float32, (batch, num_frames * 320) → float32, (batch, num_frames, 201)."""
        side = (_WINDOW_SAMPLES - FRAME_SAMPLES) // 2
        frames = F.pad(audio, (side, side)).unfold(1, _WINDOW_SAMPLES, FRAME_SAMPLES)
        return torch.fft.rfft(frames * self.window)[..., :NUM_BINS].abs().square()


class LogBands(nn.Module):
    """Power to 96 log-mel bands."""

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
        self.register_buffer("filters", torch.from_numpy(filters[:NUM_BINS].T.copy()).float())

    def forward(self, power: Tensor) -> Tensor:
        """float32, (batch, num_frames, 201) → float32, (batch, 96, num_frames)."""
        bands = self.filters @ power.transpose(1, 2)
        return torch.log10(bands / _WINDOW_SAMPLES + _POWER_FLOOR)


class FrameNetwork(nn.Module):
    """A spectrum, log-mel bands, 2-D convolutions over them, dilated ones over time."""

    def __init__(
        self, looks: Sequence[int], width: int, dilations: Sequence[int], outputs: int
    ) -> None:
        """
        Args:
            looks: channels of the 2-D convolutions, each of which halves the bands.
            width: channels of the 1-D convolutions.
            dilations: theirs, in frames.
            outputs: answers per frame.
        """
        super().__init__()
        self.spectrum = PowerSpectrum()
        self.bands = LogBands()
        self.scale = nn.BatchNorm2d(1)
        layers: list[nn.Module] = []
        for inner, outer in pairwise((1, *looks)):
            layers += [
                nn.Conv2d(inner, outer, (5, 3), stride=(2, 1), padding=(2, 1), bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(),
            ]
        self.look = nn.Sequential(*layers)
        self.join = nn.Sequential(
            nn.Conv1d(looks[-1] * _MELS // 2 ** len(looks), width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.context = nn.ModuleList(_block(width, dilation) for dilation in dilations)
        self.answer = nn.Conv1d(width, outputs, 1)

    def forward(self, audio: Tensor) -> Tensor:
        """Logits: (batch, num_frames * 320) → (batch, outputs, num_frames)."""
        return self.judge(self.spectrum(audio))

    def judge(self, power: Tensor) -> Tensor:
        """Logits: (batch, num_frames, 201) → (batch, outputs, num_frames)."""
        seen = self.look(self.scale(self.bands(power).unsqueeze(1)))
        state = self.join(seen.flatten(1, 2))
        for block in self.context:
            state = state + block(state)
        return cast(Tensor, self.answer(state))


def context_s(looks: Sequence[int], dilations: Sequence[int]) -> float:
    """How far to either side a frame's answer hears."""
    frames = _KERNEL // 2 * sum(dilations) + len(looks) + 1
    return frames * FRAME_SAMPLES / SAMPLE_RATE_HZ


def learning_rate(step: int, steps: int) -> float:
    """Share of the highest one: linear warm-up, then a cosine down to 2%."""
    cosine = 1 + math.cos(math.pi * step / steps)
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.02 + 0.49 * cosine)


def write_onnx(served: nn.Module, output: str, path: Path) -> None:
    """Write a graph of one recording: `power` (num_frames, 201) → `output` (num_frames,)."""
    frames = torch.export.Dim("num_frames", min=1)
    with torch.no_grad(), quiet():
        torch.onnx.export(
            served.eval(),
            (torch.zeros(50, NUM_BINS),),
            str(path),
            input_names=["power"],
            output_names=[output],
            dynamic_shapes=({0: frames},),
            dynamo=True,
            opset_version=_OPSET,
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


def _block(width: int, dilation: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(
            width,
            width,
            _KERNEL,
            dilation=dilation,
            padding=_KERNEL // 2 * dilation,
            bias=False,
        ),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
    )
