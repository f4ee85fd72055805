"""SpeechBrain speaker encoder → ONNX, with the filterbank and the sentence normalisation inside the
graph.

The embedding is SpeechBrain's `encode_batch(normalize=False)` for clips of full length. There is no
input for lengths: in SpeechBrain too, padding changes an embedding (cosine 0.988 between a clip and
its padded self), so the service sends windows of equal length.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from export import onnx_graph, parity, precision, torchaudio_stub
from export.errors import CheckpointError
from export.quiet import quiet
from export.types import SAMPLE_RATE_HZ, Checkpoint, ExportOptions, ModelFacts

WINDOW_S: Final = 1.5
"""Length of the windows that diarization embeds: short enough for one speaker, the usual choice
since Park et al., "Auto-tuning spectral clustering for speaker diarization" (2019)."""

KEEP_FP32: Final = ("", "spectrogram", "filterbank", "encoder.asp", "encoder.asp_bn")
"""Modules that fp16 would break: power spectra span 80 dB and more, and the attentive statistics
pooling takes variances with a floor of 1e-12, which fp16 can't hold."""


class Spectrogram(torch.nn.Module):
    """SpeechBrain's STFT power as one strided convolution with the windowed DFT basis.

    Audio (batch, samples) → power (batch, frames, n_fft // 2 + 1). ONNX's STFT operator computes
    the same 16 times slower on a CPU and has no TensorRT implementation.
    """

    basis: torch.Tensor

    def __init__(self, stft: Any) -> None:
        super().__init__()
        self.half = stft.n_fft // 2
        self.hop_length = stft.hop_length
        self.register_buffer("basis", _windowed_dft(stft.n_fft, stft.window))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(audio, (self.half, self.half)).unsqueeze(1)
        spectrum = torch.nn.functional.conv1d(padded, self.basis, stride=self.hop_length)
        real, imaginary = spectrum.chunk(2, dim=1)
        return (real * real + imaginary * imaginary).transpose(1, 2)


class SpeakerGraph(torch.nn.Module):
    """Audio (batch, samples), float32 in [-1, 1], 16 kHz → raw embeddings (batch, dim)."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(modules.compute_features.compute_STFT)
        self.filterbank = modules.compute_features.compute_fbanks
        self.encoder = modules.embedding_model

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        log_mel = self.filterbank(self.spectrogram(audio))
        embeddings: torch.Tensor = self.encoder(log_mel - log_mel.mean(dim=1, keepdim=True))
        return embeddings.squeeze(1)


def export(checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
    """Writes model.onnx into `staging` and compares the graph with SpeechBrain on real audio.

    Raises:
        CheckpointError: no SpeechBrain encoder, or its features aren't a plain log filterbank.
        ParityError: the graph's embeddings differ from SpeechBrain's.
    """
    encoder = load(checkpoint.path)
    _check_features(checkpoint.path, encoder.mods)
    clips = parity.sample_audio()
    expected = reference_embeddings(encoder, clips)

    graph = staging / "model.onnx"
    onnx_graph.write_onnx(
        SpeakerGraph(encoder.mods).eval(), graph, output="EMBEDDING", opset=options.opset
    )
    onnx_graph.name_features(graph, network="encoder")
    precision.convert(graph, options.precision, keep_fp32=KEEP_FP32)
    measured = parity.compare(expected, onnx_graph.run(graph, clips, options.precision))
    parity.check(measured, parity.TOLERANCES[options.precision])
    return ModelFacts(
        facts={"embedding_dim": len(expected[0]), "window_s": WINDOW_S} | _calibration(encoder),
        parity=measured.as_manifest(),
        opset=options.opset,
        options={
            "architecture": type(encoder.mods.embedding_model).__name__,
            "n_mels": encoder.mods.compute_features.compute_fbanks.n_mels,
        },
    )


def load(folder: Path) -> Any:
    """Opens the folder with SpeechBrain; a hyperparams.yaml that names a hub as `pretrained_path`
    is pointed at it."""
    hyperparams = folder / "hyperparams.yaml"
    if not hyperparams.is_file():
        raise CheckpointError(f"{folder} isn't a SpeechBrain folder: it has no hyperparams.yaml")
    torchaudio_stub.install()
    from speechbrain.inference.speaker import EncoderClassifier

    names_path = "pretrained_path:" in hyperparams.read_text()
    with tempfile.TemporaryDirectory() as links, quiet():
        try:
            encoder = EncoderClassifier.from_hparams(
                source=str(folder),
                savedir=links,
                overrides={"pretrained_path": str(folder)} if names_path else {},
            )
        except Exception as error:  # hyperparams.yaml runs constructors, which raise what they like
            raise CheckpointError(f"SpeechBrain can't open {folder}: {error}") from error
    encoder.eval()
    return encoder


def _calibration(encoder: Any) -> dict[str, float]:
    """What clustering wants to know of a model, where its checkpoint says it."""
    cosine = getattr(encoder.hparams, "same_speaker_cosine", None)
    return {} if cosine is None else {"same_speaker_cosine": float(cosine)}


def _check_features(folder: Path, modules: Any) -> None:
    """Refuses features that the graph doesn't compute, instead of computing others."""
    features, norm = modules.compute_features, modules.mean_var_norm
    if type(features).__name__ != "Fbank" or features.deltas or features.context:
        raise CheckpointError(f"{folder}: only plain Fbank features can be exported")
    stft = features.compute_STFT
    if (stft.sample_rate, stft.center, stft.pad_mode) != (SAMPLE_RATE_HZ, True, "constant"):
        raise CheckpointError(f"{folder}: only a centred, zero-padded 16 kHz STFT can be exported")
    if stft.win_length != stft.n_fft or stft.normalized_stft:
        raise CheckpointError(f"{folder}: only an STFT with n_fft = win_length can be exported")
    if norm.norm_type != "sentence" or norm.std_norm:
        raise CheckpointError(f"{folder}: only sentence mean normalisation can be exported")


def reference_embeddings(
    encoder: Any, clips: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """What SpeechBrain itself answers, each clip alone."""
    with torch.no_grad():
        return [
            encoder.encode_batch(torch.from_numpy(clip)[None], normalize=False)[0, 0].numpy()
            for clip in clips
        ]


def _windowed_dft(n_fft: int, window: torch.Tensor) -> torch.Tensor:
    """Basis of the real DFT times the window: float32, shape (2 * (n_fft // 2 + 1), 1, n_fft);
    cosines, then sines."""
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    samples = torch.arange(n_fft, dtype=torch.float64)
    angles = bins[:, None] * samples[None, :] * (2 * math.pi / n_fft)
    basis = torch.cat([torch.cos(angles), -torch.sin(angles)]) * window.double()
    return basis.float().unsqueeze(1)
