"""The leaf models as their own libraries run them, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.peers.interface import Floats


class TransformersEmotion:
    """transformers' audio classifier, fp32, feature extractor included."""

    def __init__(self, weights: Path, threads: int) -> None:
        import torch
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        torch.set_num_threads(threads)
        self._torch = torch
        folder = weights / "emotion"
        self._extract = AutoFeatureExtractor.from_pretrained(folder)
        self._model = AutoModelForAudioClassification.from_pretrained(folder).eval()

    def run(self, windows: Floats) -> Floats:
        inputs = self._extract(list(windows), sampling_rate=16_000, return_tensors="pt")
        with self._torch.inference_mode():
            return np.asarray(self._model(**inputs).logits, dtype=np.float32)


class SpeechBrainSpeaker:
    """SpeechBrain's `encode_batch`, fp32."""

    def __init__(self, weights: Path, threads: int) -> None:
        import tempfile

        import torch

        from export import torchaudio_stub

        torchaudio_stub.install()
        from speechbrain.inference.speaker import EncoderClassifier

        torch.set_num_threads(threads)
        self._torch = torch
        folder = str(weights / "speaker_embedding")
        self._encoder = EncoderClassifier.from_hparams(
            source=folder, savedir=tempfile.mkdtemp(), overrides={"pretrained_path": folder}
        )

    def run(self, windows: Floats) -> Floats:
        with self._torch.inference_mode():
            embeddings = self._encoder.encode_batch(self._torch.from_numpy(windows))
        return np.asarray(embeddings.squeeze(1), dtype=np.float32)
