"""Utterance statistics of pitch, timbre and energy: what the emotion network first learns to hear.

A linear classifier on such statistics beats a small network that sees only the labels of four
hundred clips, so the network learns to predict them from the waveform (they need no labels), and
then to classify. The set follows the usual openSMILE functionals (Eyben et al., GeMAPS, 2016) in
spirit: means, spreads and percentiles of cepstra, fundamental frequency and energy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from export.training.corpora import SAMPLE_RATE_HZ

HOP = SAMPLE_RATE_HZ // 100
NUM_MELS = 40
NUM_CEPSTRA = 20
# Normalised autocorrelation above which a frame counts as voiced (Praat's default).
VOICED = 0.45

_MEL_WINDOW, _MEL_FFT = 400, 512
_PITCH_WINDOW, _PITCH_FFT = 800, 2048
_LOWEST_PITCH_HZ, _HIGHEST_PITCH_HZ = 60.0, 500.0
# Autocorrelation given up per octave of lower pitch, against octave errors (Praat's octave cost).
_OCTAVE_COST = 0.05
# Frames this far below the loudest one are pauses.
_SPEECH_RANGE_DB = 40.0


def log_mel(audio: Tensor) -> Tensor:
    """Log-mel power spectrum, natural logarithm, 25 ms Hann windows every 10 ms.

    Args:
        audio: float32, shape (..., num_samples), 16 kHz, at least 400 samples.

    Returns:
        float32, shape (..., num_frames, 40).
    """
    frames = audio.unfold(-1, _MEL_WINDOW, HOP) * torch.hann_window(_MEL_WINDOW)
    power = torch.fft.rfft(frames, _MEL_FFT).abs().square()
    return torch.log(power @ _mel_filters().T + 1e-8)


def pitch_track(audio: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch by normalised autocorrelation (Boersma 1993) in 50 ms windows every 10 ms.

    Args:
        audio: float32, shape (num_samples,), 16 kHz, at least 800 samples.

    Returns:
        Pitch in Hz and voicing strength (autocorrelation at that pitch, up to 1), both float32,
        shape (num_frames,).
    """
    window = torch.hann_window(_PITCH_WINDOW)
    frames = audio.unfold(-1, _PITCH_WINDOW, HOP) * window
    correlation = torch.fft.irfft(torch.fft.rfft(frames, _PITCH_FFT).abs().square())
    of_window = torch.fft.irfft(torch.fft.rfft(window, _PITCH_FFT).abs().square())
    shortest = int(SAMPLE_RATE_HZ / _HIGHEST_PITCH_HZ)
    longest = int(SAMPLE_RATE_HZ / _LOWEST_PITCH_HZ)
    lags = torch.arange(shortest, longest)
    strength = correlation[:, lags] / (of_window[lags] / of_window[0])
    strength = strength / (correlation[:, :1] + 1e-8)
    best = (strength - _OCTAVE_COST * torch.log2(lags / shortest)).argmax(1)
    return SAMPLE_RATE_HZ / lags[best], strength.gather(1, best[:, None])[:, 0]


def utterance_statistics(audio: Tensor) -> Tensor:
    """Summarise a whole utterance.

    Args:
        audio: float32, shape (num_samples,), 16 kHz, at least 0.2 s, pauses at the ends cut off.

    Returns:
        float32, shape (105,): cepstral means, spreads, slopes and percentiles over speech, the same
        means over voiced frames, then pitch (log2 Hz), voicing and energy statistics.
    """
    mels = log_mel(audio)
    pitch_hz, voicing = pitch_track(audio)
    num_frames = min(len(mels), len(pitch_hz))
    mels, pitch_hz, voicing = mels[:num_frames], pitch_hz[:num_frames], voicing[:num_frames]
    cepstra = mels @ _cosine_transform()
    slopes = torch.gradient(cepstra, dim=0)[0]
    energy = torch.logsumexp(mels, 1)
    speech = energy > energy.max() - _SPEECH_RANGE_DB * math.log(10) / 10
    voiced = (voicing > VOICED) & speech
    if voiced.sum() < 5:
        voiced = voicing >= voicing.sort().values[-5]
    spread = torch.tensor([0.1, 0.9])
    return torch.cat(
        [
            cepstra[speech, 1:].mean(0),
            cepstra[speech].std(0),
            slopes[speech].std(0),
            cepstra[voiced, 1:].mean(0),
            torch.quantile(cepstra[speech, 1:8], spread, dim=0).flatten(),
            _pitch_statistics(torch.log2(pitch_hz[voiced])),
            _rhythm_statistics(energy, voicing, voiced, speech),
        ]
    )


def _pitch_statistics(octaves: Tensor) -> Tensor:
    low, middle, high = torch.quantile(octaves, torch.tensor([0.1, 0.5, 0.9]))
    movement = octaves.diff().abs().mean()
    return torch.stack([octaves.mean(), octaves.std(), low, middle, high, high - low, movement])


def _rhythm_statistics(energy: Tensor, voicing: Tensor, voiced: Tensor, speech: Tensor) -> Tensor:
    below_peak = energy[speech] - energy.max()
    return torch.stack(
        [
            voicing[voiced].mean(),
            voiced.float().mean(),
            below_peak.mean(),
            below_peak.std(),
            energy.diff().abs().mean(),
            voiced.float().diff().abs().mean(),
        ]
    )


def _mel_filters() -> Tensor:
    """Triangular filters from 50 to 7,800 Hz: float32, shape (40, 257)."""
    mels = torch.linspace(_to_mel(50.0), _to_mel(7800.0), NUM_MELS + 2)
    edges_hz = 700 * (10 ** (mels / 2595) - 1)
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, _MEL_FFT // 2 + 1)
    rise = (bins_hz - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    fall = (edges_hz[2:, None] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp_min(0)


def _cosine_transform() -> Tensor:
    """Orthonormal DCT-II from mels to cepstra: float32, shape (40, 20)."""
    angles = (
        math.pi / NUM_MELS * torch.outer(torch.arange(NUM_MELS) + 0.5, torch.arange(NUM_CEPSTRA))
    )
    basis = torch.cos(angles) * math.sqrt(2 / NUM_MELS)
    basis[:, 0] /= math.sqrt(2)
    return basis


def _to_mel(frequency_hz: float) -> float:
    return 2595 * math.log10(1 + frequency_hz / 700)
