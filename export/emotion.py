"""Emotion classifier → ONNX: wav2vec2, HuBERT or WavLM with a sequence classification head.

The graph takes plain PCM. Where the checkpoint's preprocessor normalises each clip to zero mean and
unit variance, so does the graph, and the output are logits, one per label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

from export import onnx_graph, parity, precision
from export.errors import CheckpointError
from export.quiet import quiet
from export.types import SAMPLE_RATE_HZ, Checkpoint, ExportOptions, ModelFacts

ARCHITECTURES: Final = (
    "Wav2Vec2ForSequenceClassification",
    "HubertForSequenceClassification",
    "WavLMForSequenceClassification",
)

BUNDLED_WINDOW_S: Final = 2.0
"""The bundled checkpoint was trained on clips of at most 2 s."""

DEFAULT_WINDOW_S: Final = 4.0
"""Length of the window that a checkpoint is shown, unless its config.json has a number `window_s`.
The hub's emotion checkpoints were trained on IEMOCAP's turns, 4.5 s on average (Busso et al., LREC
2008); within a longer window the emotion of a conversation changes."""

VARIANCE_FLOOR: Final = 1e-7
"""Added to the variance by transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm."""


INPUT_NORMALISATION: Final = ""
"""The graph's root module, whose own nodes are the zero-mean, unit-variance normalisation: sums
over a whole clip."""


class EmotionGraph(torch.nn.Module):
    """Audio (batch, samples), float32 in [-1, 1], 16 kHz → logits (batch, labels).

    The logits are divided by the temperature, so that their plain softmax is calibrated.
    """

    def __init__(self, classifier: torch.nn.Module, normalize: bool, temperature: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.normalize = normalize
        self.temperature = temperature

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        if self.normalize:
            centred = audio - audio.mean(dim=1, keepdim=True)
            variance = (centred * centred).mean(dim=1, keepdim=True)
            audio = centred / torch.sqrt(variance + VARIANCE_FLOOR)
        logits: torch.Tensor = self.classifier(audio).logits
        return logits if self.temperature == 1.0 else logits / self.temperature


def export(checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
    """Writes model.onnx and labels.txt into `staging` and compares the graph with transformers on
    real audio.

    Raises:
        CheckpointError: no sequence classifier of the three families, or not one for 16 kHz.
        ParityError: the graph's logits differ from transformers'.
    """
    config = _read_config(checkpoint.path)
    extractor = _read_extractor(checkpoint.path)
    classifier = _load(checkpoint.path)
    clips = parity.sample_audio()
    temperature = _temperature(config)
    expected = [
        logits / np.float32(temperature)
        for logits in _reference_logits(classifier, extractor, clips)
    ]

    graph = staging / "model.onnx"
    _bake_weight_norm(classifier)
    onnx_graph.write_onnx(
        EmotionGraph(classifier, bool(extractor.do_normalize), temperature).eval(),
        graph,
        output="LOGITS",
        opset=options.opset,
    )
    precision.convert(graph, options.precision, keep_fp32=[INPUT_NORMALISATION])
    measured = parity.compare(expected, onnx_graph.run(graph, clips, options.precision))
    parity.check(measured, parity.TOLERANCES[options.precision])

    labels = [config.id2label[index] for index in range(config.num_labels)]
    (staging / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    return ModelFacts(
        facts={
            "labels": labels,
            "window_s": _window_s(checkpoint, config),
            "temperature": temperature,
        },
        parity=measured.as_manifest(),
        opset=options.opset,
        options={
            "architecture": config.architectures[0],
            "normalize": bool(extractor.do_normalize),
        },
    )


def _read_config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} isn't a Hugging Face checkpoint: no usable config.json ({error})"
        ) from error
    architecture = (config.architectures or ["unknown"])[0]
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder} holds a {architecture}; the emotion model takes {', '.join(ARCHITECTURES)}"
        )
    return config


def _read_extractor(folder: Path) -> Any:
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder} has no usable preprocessor_config.json") from error
    if extractor.sampling_rate != SAMPLE_RATE_HZ:
        raise CheckpointError(
            f"{folder} is for {extractor.sampling_rate} Hz audio, not for {SAMPLE_RATE_HZ} Hz"
        )
    return extractor


def _load(folder: Path) -> Any:
    with quiet():
        try:
            model = AutoModelForAudioClassification.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the weights in {folder} can't be read: {error}") from error
    return model.eval()


def _reference_logits(
    classifier: Any, extractor: Any, clips: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """What transformers itself answers, each clip alone."""
    logits = []
    for clip in clips:
        features = extractor(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
        with torch.no_grad():
            logits.append(classifier(**features).logits[0].numpy())
    return logits


def _bake_weight_norm(module: torch.nn.Module) -> None:
    """Replaces weight-normalised weights (the positional convolution's) by their values, once
    instead of in each run."""
    for layer in module.modules():
        if torch.nn.utils.parametrize.is_parametrized(layer, "weight"):
            torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")


def _window_s(checkpoint: Checkpoint, config: Any) -> float:
    default = BUNDLED_WINDOW_S if checkpoint.bundled else DEFAULT_WINDOW_S
    return float(getattr(config, "window_s", default))


def _temperature(config: Any) -> float:
    """The divisor of the logits that calibrates them, `logit_temperature` of config.json, or 1.

    Raises:
        CheckpointError: it is no positive number.
    """
    temperature = getattr(config, "logit_temperature", 1.0)
    if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
        raise CheckpointError(f"logit_temperature must be a positive number, not {temperature}")
    return float(temperature)
