"""Compares the exported Whisper with PyTorch on recordings of real people.

The exported graphs decode greedily with their caches; PyTorch then reads the same tokens in one
pass without a cache. Where both would choose the same next token at each position, both decode the
same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
    runner = _Runner(folder, facts.sizes)
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
    """The exported graphs in onnxruntime, one clip at a time."""

    def __init__(self, folder: Path, sizes: WhisperSizes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.sizes = sizes
        self.encoder = onnxruntime.InferenceSession(folder / ENCODER_FILE, options, providers)
        self.decoder = onnxruntime.InferenceSession(folder / DECODER_FILE, options, providers)
        cache_type = next(i.type for i in self.decoder.get_inputs() if i.name == "past_key_0")
        self.dtype = np.float16 if cache_type == "tensor(float16)" else np.float32

    def decode(
        self, audio: Floats, prompt: list[int], allowed: NDArray[np.bool_]
    ) -> tuple[_Reading, list[int]]:
        """Decodes `_STEPS` tokens, whether or not the text has ended."""
        cross = self.encoder.run(None, {"audio": _padded(audio)[None]})
        empty = np.zeros((1, 1, self.sizes.heads, 0, self.sizes.head_dim), self.dtype)
        past = [empty] * (2 * self.sizes.decoder_layers)
        tokens, fresh = [], prompt
        logits, attention = [], []
        for _ in range(_STEPS):
            feed = {
                "tokens": np.array([[fresh]], np.int64),
                "padding": np.zeros(1, np.int64),
                "logit_positions": np.array([len(fresh) - 1], np.int64),
                **dict(zip(layer_names("past", self.sizes), past, strict=True)),
                **dict(zip(cross_names(self.sizes), cross, strict=True)),
            }
            step_logits, scores, *past = self.decoder.run(None, feed)
            logits.append(step_logits[0, 0, 0])
            attention.append(_softmax(scores[0, :, -1:]))
            fresh = [int(np.where(allowed, step_logits[0, 0, 0], -np.inf).argmax())]
            tokens += fresh
        cross = [value[0].astype(np.float32) for value in cross]
        reading = _Reading(cross, np.stack(logits), np.concatenate(attention, axis=1))
        return reading, tokens


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


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normalised: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return normalised
