"""Whisper's log-mel spectrogram as a module that exports into plain ONNX operators."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

_SAMPLE_RATE_HZ: Final = 16_000
_FFT_SAMPLES: Final = 400
_HOP_SAMPLES: Final = 160
_MEL_TOP_HZ: Final = 8000.0


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram with the Fourier transform as a convolution.

    The same numbers as openai-whisper's `log_mel_spectrogram` to about 2e-5. ONNX's own STFT
    operator is an order of magnitude slower in onnxruntime than this convolution.
    """

    dft: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        bins = _FFT_SAMPLES // 2 + 1
        window = torch.hann_window(_FFT_SAMPLES, dtype=torch.float64)
        angle = (
            torch.outer(
                torch.arange(bins, dtype=torch.float64),
                torch.arange(_FFT_SAMPLES, dtype=torch.float64),
            )
            * 2
            * math.pi
            / _FFT_SAMPLES
        )
        kernels = torch.cat([torch.cos(angle) * window, -torch.sin(angle) * window])
        filters = mel_filter_bank(
            num_frequency_bins=bins,
            num_mel_filters=mels,
            min_frequency=0.0,
            max_frequency=_MEL_TOP_HZ,
            sampling_rate=_SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("dft", kernels.float().unsqueeze(1))
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()).float())

    def forward(self, audio: Tensor) -> Tensor:
        """float32, (batch, 480000), in [-1, 1] → float32, (batch, mels, 3000), -1.5 to 2."""
        half = _FFT_SAMPLES // 2
        padded = F.pad(audio.unsqueeze(1), (half, half), mode="reflect")
        real, imaginary = F.conv1d(padded, self.dft, stride=_HOP_SAMPLES)[:, :, :-1].chunk(2, dim=1)
        power = real * real + imaginary * imaginary
        log_power = torch.log10(torch.clamp(self.filters @ power, min=1e-10))
        floor = log_power.amax(dim=(1, 2), keepdim=True) - 8.0
        return (torch.maximum(log_power, floor) + 4.0) / 4.0
