"""Whisper's log-mel spectrogram in torch, in steps between which training colours the sound."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

NUM_MELS = 80
_FFT, _HOP = 400, 160
_FILTERS = torch.from_numpy(
    mel_filter_bank(_FFT // 2 + 1, NUM_MELS, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
).T.to(torch.float32)
_HANN = torch.hann_window(_FFT)


def log10_mel(audio: Tensor) -> Tensor:
    """Log-mel power: audio float32 (batch, samples) at 16 kHz to (batch, 80, samples / 160)."""
    spectrum = torch.stft(audio, _FFT, _HOP, window=_HANN, return_complex=True)[..., :-1]
    return (_FILTERS @ spectrum.abs().square()).clamp_min(1e-10).log10()


def normalise_log_mel(log_mel: Tensor) -> Tensor:
    """Whisper's scaling: at most 8 decades below each window's loudest value, then (x + 4) / 4."""
    floor = log_mel.amax((1, 2), keepdim=True) - 8
    return (torch.maximum(log_mel, floor) + 4) / 4


def colour_log_mel(log_mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Change each window's vocal tract length, spectral balance and bandwidth at random, mask bits.

    Args:
        log_mel: decades of power, float32, shape (batch, 80, mel frames).
    """
    warps = [rng.uniform(0.86, 1.14) if rng.random() < 0.65 else 1.0 for _ in log_mel]
    coloured = torch.stack([_warp_matrix(warp) for warp in warps]) @ log_mel
    curves = np.stack([_balance(rng) for _ in log_mel])
    coloured += torch.from_numpy(curves.astype(np.float32))[:, :, None]
    for window in coloured:
        _mask(window, rng)
    return coloured


def _warp_matrix(factor: float) -> Tensor:
    """Linear interpolation of mel bands at ``factor`` times their index, shape (80, 80)."""
    source = np.clip(np.arange(NUM_MELS) * factor, 0, NUM_MELS - 1)
    below = np.floor(source).astype(int)
    share = (source - below).astype(np.float32)
    matrix = np.zeros((NUM_MELS, NUM_MELS), np.float32)
    rows = np.arange(NUM_MELS)
    matrix[rows, below] += 1 - share
    matrix[rows, np.minimum(below + 1, NUM_MELS - 1)] += share
    return torch.from_numpy(matrix)


def _balance(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A smooth gain of ±0.8 decades, often with the end of a narrow band above 3 to 4.5 kHz."""
    gain = np.zeros(NUM_MELS)
    if rng.random() < 0.6:
        gain += np.interp(np.arange(NUM_MELS), np.linspace(0, 79, 6), rng.uniform(-0.8, 0.8, 6))
    if rng.random() < 0.35:
        edge = rng.uniform(50, 66)
        gain -= np.clip(np.arange(NUM_MELS) - edge, 0, None) * rng.uniform(0.5, 3)
    return gain


def _mask(window: Tensor, rng: np.random.Generator) -> None:
    """Blank a few bands or a moment (at most 80 ms) with the window's quietest or mean value."""
    if rng.random() < 0.4:
        return
    for _ in range(int(rng.integers(0, 3))):
        first = int(rng.integers(0, 70))
        window[first : first + int(rng.integers(1, 9))] = window.mean()
    if rng.random() < 0.3:
        start = int(rng.integers(0, window.shape[1] - 10))
        window[:, start : start + int(rng.integers(1, 9))] = window.mean()
