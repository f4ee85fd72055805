"""Compares the exported Whisper with PyTorch on recordings of real people.

The exported graphs decode greedily with their caches; PyTorch then reads the same tokens in one
pass without a cache. Where both would choose the same next token at each position, both decode the
same text.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from export.errors import ParityError
from export.parity import TOLERANCES, check, compare, sample_audio
from export.types import Precision
from export.whisper_generation import GenerationFacts
from export.whisper_graph import CLIP_SAMPLES, WhisperSizes
from export.whisper_onnx import DECODER_FILE, ENCODER_FILE, cross_names, layer_names

SERVED_ENCODER: Final = (
    Path(__file__)
    .resolve()
    .parents[1]
    .joinpath("model_repository", "whisper", "1", "cpu_encoder.py")
)
"""The module with which a CPU runs encoder.onnx."""

_CLIPS: Final = 2
_STEPS: Final = 24
"""Tokens decoded per clip: more than a clip of the samples says, so that the cache is exercised on
any weights."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Reading:
    """What one implementation made of one clip.

    cross: the encoder's keys and values; logits: (tokens, vocab); attention: (alignment heads,
    tokens, 1500), after softmax.
    """

    cross: list[Floats]
    logits: Floats
    attention: Floats


def measure_parity(
    model: WhisperForConditionalGeneration,
    facts: GenerationFacts,
    folder: Path,
    precision: Precision,
) -> dict[str, float | bool | int | str]:
    """Runs both on sample clips and holds the exported graphs to the precision's tolerance.

    Raises:
        ParityError: encoder, logits, attention or, in fp32, the greedy tokens differ.
    """
    runner = _Runner(folder, facts.sizes, precision)
    allowed = _allowed_tokens(facts)
    expected: list[_Reading] = []
    measured: list[_Reading] = []
    same, total = 0, 0
    for audio in sample_audio()[:_CLIPS]:
        prompt = _prompt(facts)
        reading, tokens = runner.decode(audio, prompt, allowed)
        reference = _reference(
            model, facts.alignment_heads, audio, prompt + tokens[:-1], len(prompt)
        )
        expected.append(reference)
        measured.append(reading)
        choices = np.where(allowed, reference.logits, -np.inf).argmax(axis=-1)
        same += int((choices == np.array(tokens)).sum())
        total += len(tokens)
    report = _compare_all(expected, measured, precision)
    if precision == "fp32" and same != total:
        raise ParityError(f"greedy tokens differ from PyTorch's: {total - same} of {total}")
    return {**report, "greedy_tokens": total, "greedy_tokens_equal": same}


def _compare_all(
    expected: list[_Reading], measured: list[_Reading], precision: Precision
) -> dict[str, float | bool | int | str]:
    tolerance = TOLERANCES[precision]
    cross = compare(
        [value for reading in expected for value in reading.cross],
        [value for reading in measured for value in reading.cross],
    )
    logits = compare([r.logits for r in expected], [r.logits for r in measured])
    attention = compare([r.attention for r in expected], [r.attention for r in measured])
    for parity in (cross, logits):
        check(parity, tolerance)
    return {
        "clips": logits.clips,
        "encoder_max_difference": cross.relative_difference,
        "logits_max_difference": logits.relative_difference,
        "alignment_max_abs_difference": attention.max_abs_difference,
    }


class _Runner:
    """The exported graphs, one clip at a time; the int8 encoder, which is for CPUs alone, as it is
    served there."""

    def __init__(self, folder: Path, sizes: WhisperSizes, precision: Precision) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.sizes = sizes
        self.encode: Callable[[Floats], dict[str, NDArray[Any]]] = (
            _served_encoder(folder / ENCODER_FILE)
            if precision == "int8"
            else _plain_encoder(folder / ENCODER_FILE, options)
        )
        self.decoder = onnxruntime.InferenceSession(folder / DECODER_FILE, options, providers)
        cache_type = next(i.type for i in self.decoder.get_inputs() if i.name == "past_key_0")
        self.dtype = np.float16 if cache_type == "tensor(float16)" else np.float32

    def decode(
        self, audio: Floats, prompt: list[int], allowed: NDArray[np.bool_]
    ) -> tuple[_Reading, list[int]]:
        """Decodes `_STEPS` tokens, whether or not the text has ended."""
        cross = self.encode(audio)
        past, tokens, fresh = self._empty_cache(), [], prompt
        logits: list[Floats] = []
        for _ in range(_STEPS):
            step_logits, _, *present = self._read(fresh, past, cross)
            past = present[: len(past)]
            logits.append(step_logits[0, 0, 0])
            fresh = [int(np.where(allowed, step_logits[0, 0, 0], -np.inf).argmax())]
            tokens += fresh
        # Word times are read from all tokens in one pass, and so is what they are made of.
        _, scores, *_ = self._read(prompt + tokens[:-1], self._empty_cache(), cross)
        attention = _softmax(scores[0, :, len(prompt) - 1 :])
        floats = [_floats(name, cross) for name in cross_names(self.sizes)]
        return _Reading(floats, np.stack(logits), attention), tokens

    def _read(
        self, tokens: list[int], past: list[Floats], cross: Mapping[str, NDArray[Any]]
    ) -> list[Floats]:
        feed = {
            "tokens": np.array([[tokens]], np.int64),
            "padding": np.zeros(1, np.int64),
            "logit_positions": np.array([len(tokens) - 1], np.int64),
            **dict(zip(layer_names("past", self.sizes), past, strict=True)),
            **cross,
        }
        answers: list[Floats] = self.decoder.run(None, feed)
        return answers

    def _empty_cache(self) -> list[Floats]:
        shape = (1, 1, self.sizes.heads, 0, self.sizes.head_dim)
        empty: Floats = np.zeros(shape, self.dtype)
        return [empty] * (2 * self.sizes.decoder_layers)


def _plain_encoder(
    path: Path, options: onnxruntime.SessionOptions
) -> Callable[[Floats], dict[str, NDArray[Any]]]:
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def encode(audio: Floats) -> dict[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, {"audio": _padded(audio)[None]}), strict=True))

    return encode


def _served_encoder(path: Path) -> Callable[[Floats], dict[str, NDArray[Any]]]:
    """The encoder in the Triton model's own module."""
    spec = importlib.util.spec_from_file_location("cpu_encoder", SERVED_ENCODER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder = module.CpuEncoder(path, threads=1, precision="int8")

    def encode(audio: Floats) -> dict[str, NDArray[Any]]:
        answers: dict[str, NDArray[Any]] = encoder.encode([audio[:CLIP_SAMPLES]])
        return answers

    return encode


def _reference(
    model: WhisperForConditionalGeneration,
    heads: Sequence[tuple[int, int]],
    audio: Floats,
    tokens: list[int],
    prompt_length: int,
) -> _Reading:
    """PyTorch's answer, from transformers' own spectrogram on."""
    extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    features = extractor(audio, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        output = model(
            input_features=features,
            decoder_input_ids=torch.tensor([tokens]),
            output_attentions=True,
        )
        hidden = output.encoder_last_hidden_state
        cross: list[Floats] = []
        for layer in model.get_decoder().layers:
            attention = layer.encoder_attn
            shape = (attention.num_heads, attention.head_dim)
            cross.append(attention.k_proj(hidden)[0].unflatten(-1, shape).permute(1, 2, 0).numpy())
            cross.append(attention.v_proj(hidden)[0].unflatten(-1, shape).permute(1, 0, 2).numpy())
        logits = output.logits[0, prompt_length - 1 :].numpy()
        weights = torch.stack([output.cross_attentions[layer][0, head] for layer, head in heads])
    return _Reading(cross, logits, weights[:, prompt_length - 1 :].numpy())


def _prompt(facts: GenerationFacts) -> list[int]:
    language = list(facts.languages.values())[:1]
    task = [facts.tokens["transcribe"]] if language else []
    return [
        facts.tokens["start_of_transcript"],
        *language,
        *task,
        facts.tokens["no_timestamps"],
    ]


def _allowed_tokens(facts: GenerationFacts) -> NDArray[np.bool_]:
    """Text only: neither control tokens nor timestamps, whose rules are the serving side's."""
    allowed = np.ones(facts.sizes.vocab, np.bool_)
    allowed[list(facts.suppress)] = False
    allowed[facts.tokens["end_of_text"] :] = False
    return allowed


def _padded(audio: Floats) -> Floats:
    clip = np.zeros(CLIP_SAMPLES, np.float32)
    clip[: audio.size] = audio[:CLIP_SAMPLES]
    return clip


def _floats(name: str, cross: Mapping[str, NDArray[Any]]) -> Floats:
    """Keys (heads, head_dim, 1500) or values (heads, 1500, head_dim), whatever their precision."""
    value = cross[name][0]
    part, layer = name.removeprefix("cross_").split("_")
    scales = cross.get(f"cross_{part}_scale_{layer}")
    floats: Floats = value.astype(np.float32)
    if scales is not None:
        floats *= scales.reshape(value.shape[0], 1, value.shape[2])
        floats = floats.transpose(0, 2, 1) if part == "key" else floats
    return floats


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normalised: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return normalised
