"""Whisper checkpoints of the true sizes with made-up weights that write a set number of tokens.

Speed needs no trained weights, but it needs as many decoder steps as trained ones would take:
random weights either never stop or stop at once. These write one token for every `TOKEN_S` seconds
of speech and then end, whatever engine runs them, and are sure of every token, so that no engine
decodes again at another temperature. How:

- The encoder carries, past its random layers, two numbers for each frame: whether it sounds (from
  the tilt of its log-mel bands) and its place in time.
- One head of the decoder's first cross-attention looks at the last frame that sounds and brings its
  place into one number of the decoder's state, where the position embedding counts the other way.
- The end-of-text row of the token embedding reads that number alone: it wins as soon as the count
  has passed the place, and is hopeless before.

Needs torch and transformers.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from benchmarks.load.clips import SAMPLE_RATE_HZ, clip_audio, speech
from benchmarks.prepare import BUNDLED
from export.whisper_openai import ALIGNMENT_HEADS, load_openai_tokenizer

TOKEN_S: Final = 0.3
"""One token for so many seconds of speech: 2.5 words a second at 1.33 tokens a word."""

SEED: Final = 20
VOCAB: Final = 51_865
END_OF_TEXT: Final = 50_257
FIRST_TIMESTAMP: Final = 50_364
PROMPT: Final = 4
"""Tokens before the text: start, language, task, then `<|notimestamps|>` or `<|0.00|>`."""

# Places of the numbers that go round the random layers.
_SOUNDS, _PLACE = 0, 1
_COUNT, _ONE = 0, 1

_TOKEN_SPREAD: Final = 12.0
"""Standard deviation of the logits: the likeliest of 50,000 leads by 2.6 nats on average then."""

_STEP: Final = 0.1
"""What one token moves the count by, in standard deviations of the decoder's state: large enough
for 8 bits, small enough that 100 tokens don't drown the rest."""

_END_STEP: Final = 2 * _TOKEN_SPREAD
"""What one token moves the logit of the end by: from hopeless to sure within a few tokens."""

_LATE: Final = 2.5
"""Tokens from where the count passes the place to where the end's logit leads all others'."""

_LOUD: Final = 8.0
"""What cross-attention's values are multiplied by. The place among them, too: in a row of 8 bits
whose others are eight times as large, it would be off by more than a token's worth. And it is
brought by all numbers of its head, each on a scale of its own: one alone is off by half a token."""

_LENGTHS_S: Final = (2.0, 4.0, 8.0, 13.0, 18.0, 24.0, 29.8)


@dataclass(frozen=True)
class Size:
    """Dimensions of a published Whisper."""

    d_model: int
    heads: int
    layers: int


SIZES: Final = {"tiny": Size(384, 6, 4), "base": Size(512, 8, 6), "small": Size(768, 12, 12)}


def write_checkpoint(folder: Path, name: str) -> Path:
    """Writes a checkpoint of the size `name` in Hugging Face's layout; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = load_openai_tokenizer(VOCAB)
    model = make(SIZES[name])
    model.generation_config = _generation_config(name, tokenizer)
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(BUNDLED / file, folder)
    return folder


def make(size: Size) -> WhisperForConditionalGeneration:
    """The model in evaluation mode, calibrated on the benchmark's own audio."""
    torch.manual_seed(SEED)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=VOCAB,
            num_mel_bins=80,
            d_model=size.d_model,
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            encoder_attention_heads=size.heads,
            decoder_attention_heads=size.heads,
            encoder_ffn_dim=4 * size.d_model,
            decoder_ffn_dim=4 * size.d_model,
            pad_token_id=END_OF_TEXT,
            bos_token_id=END_OF_TEXT,
            eos_token_id=END_OF_TEXT,
            decoder_start_token_id=END_OF_TEXT + 1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "embed" not in name:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        _hear(model)
        _look_at_the_end(model)
        _speak(model)
        _stop(model, size)
    return model


def _hear(model: WhisperForConditionalGeneration) -> None:
    """The encoder's frames carry `_SOUNDS` (0 or more) and `_PLACE` (-1 to 1), times a scale.

    A frame sounds where its bands differ: engines fill what is missing of 30 s with silent samples,
    whose bands all lie at the spectrogram's floor, or with spectrogram frames of zeros.
    """
    encoder = model.get_encoder()
    gain, threshold, most = 40.0, 0.12, 6.0
    tilt = torch.cat([torch.full((40,), gain / 40), torch.full((40,), -gain / 40)])
    encoder.conv1.weight[:4] = 0
    encoder.conv2.weight[:, :4] = 0
    encoder.conv2.weight[[_SOUNDS, _PLACE]] = 0
    encoder.conv2.bias[[_SOUNDS, _PLACE]] = 0
    for channel, sign in ((0, 1.0), (2, -1.0)):  # low bands louder, high bands louder
        encoder.conv1.weight[channel : channel + 2, :, 1] = sign * tilt
        encoder.conv1.bias[channel] = -gain * threshold
        encoder.conv1.bias[channel + 1] = -gain * threshold - most
        encoder.conv2.weight[_SOUNDS, channel, 1] = 10.0  # the difference is at most `most`
        encoder.conv2.weight[_SOUNDS, channel + 1, 1] = -10.0
    places = encoder.embed_positions.weight
    places[:, ::2] += 7  # the layers' norms divide by what is about the same for every frame now
    places[:, 1::2] -= 7
    places[:, _SOUNDS] = 0
    places[:, _PLACE] = torch.linspace(-1, 1, len(places)) * 30
    for layer in encoder.layers:
        _keep_out(layer.self_attn.out_proj, (_SOUNDS, _PLACE))
        _keep_out(layer.fc2, (_SOUNDS, _PLACE))


def _look_at_the_end(model: WhisperForConditionalGeneration) -> None:
    """Head 0 of the first cross-attention attends to the last frame that sounds."""
    decoder = model.get_decoder()
    for layer in decoder.layers:
        for projection in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            _keep_out(projection, (_COUNT, _ONE))
        layer.encoder_attn.k_proj.weight *= (
            4  # not to be dwarfed by head 0, as 8 bits would have it
        )
        layer.encoder_attn.v_proj.weight *= _LOUD
        layer.encoder_attn.out_proj.weight /= 16  # what it brings is the same at every step
    attention = decoder.layers[0].encoder_attn
    head = slice(0, attention.head_dim)
    attention.q_proj.weight[head] = 0
    attention.q_proj.bias[head] = 0
    attention.q_proj.bias[0] = attention.head_dim**0.5  # a query of 1 once scaled
    attention.k_proj.weight[head] = 0
    attention.k_proj.weight[0, _SOUNDS] = 14.0
    attention.k_proj.weight[0, _PLACE] = 10.0
    attention.v_proj.weight[head] = 0
    attention.v_proj.weight[head, _PLACE] = _gains(attention.head_dim)
    attention.out_proj.weight[:, head] = 0


def _speak(model: WhisperForConditionalGeneration) -> None:
    """Text tokens are clear winners; timestamps lose to them, but `<|0.00|>` opens the text."""
    decoder = model.get_decoder()
    tokens, places = decoder.embed_tokens.weight, decoder.embed_positions.weight
    tokens.normal_(0.0, _TOKEN_SPREAD * tokens.shape[1] ** -0.5)
    tokens[:, [_COUNT, _ONE]] = 0
    tokens[FIRST_TIMESTAMP:] = 0
    places.normal_(0.0, 4.0)  # what comes next hangs on the place, or one token would repeat itself
    places[:, _ONE] = 5.0
    tokens[FIRST_TIMESTAMP + 1 :, _ONE] = -100.0
    tokens[FIRST_TIMESTAMP, _ONE] = -80.0
    tokens[END_OF_TEXT] = 0


def _stop(model: WhisperForConditionalGeneration, size: Size) -> None:
    """The count passes the place that was looked at after a token for every `TOKEN_S`."""
    seen = np.array([_place_seen(model, length_s) for length_s in _LENGTHS_S])
    spread = _state_spread(model)
    slope = float(np.polyfit(_LENGTHS_S, seen, 1)[0]) * TOKEN_S
    scale = _STEP * spread / slope
    decoder = model.get_decoder()
    attention = decoder.layers[0].encoder_attn
    gains = _gains(attention.head_dim)
    attention.out_proj.weight[_COUNT, : attention.head_dim] = -scale * gains / gains.square().sum()
    positions = np.arange(len(decoder.embed_positions.weight))
    lengths_s = (positions - PROMPT + _LATE) * TOKEN_S
    counted = scale * _extrapolate(lengths_s, np.array(_LENGTHS_S), seen)
    decoder.embed_positions.weight[:, _COUNT] = torch.from_numpy(counted).float()
    decoder.embed_tokens.weight[END_OF_TEXT, _COUNT] = _END_STEP / _STEP


def _gains(head_dim: int) -> torch.Tensor:
    return _LOUD * torch.linspace(0.6, 1.0, head_dim)


def _place_seen(model: WhisperForConditionalGeneration, length_s: float) -> float:
    """What head 0 brings from a clip of that length, before its output projection."""
    audio = clip_audio(speech(), length_s, np.random.default_rng(SEED))
    frames = model.get_encoder()(_features(audio)).last_hidden_state
    scores = frames @ model.get_decoder().layers[0].encoder_attn.k_proj.weight[0]
    return float(torch.softmax(scores, -1)[0] @ frames[0, :, _PLACE])


def _state_spread(model: WhisperForConditionalGeneration) -> float:
    """Standard deviation of the decoder's state before its last norm."""
    states: list[torch.Tensor] = []
    hook = model.get_decoder().layer_norm.register_forward_pre_hook(
        lambda _, inputs: states.append(inputs[0])
    )
    audio = clip_audio(speech(), 10.0, np.random.default_rng(0))
    tokens = torch.randint(0, END_OF_TEXT, (1, 40))
    model(input_features=_features(audio), decoder_input_ids=tokens)
    hook.remove()
    return float(states[0].std(-1).mean())


def _features(audio: NDArray[np.float32]) -> torch.Tensor:
    extract = WhisperFeatureExtractor()
    features: torch.Tensor = extract(
        audio, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
    ).input_features
    return features


def _extrapolate(x: NDArray[Any], known: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Interpolation between known points, the line through all of them outside."""
    slope, offset = np.polyfit(known, values, 1)
    inside = np.interp(x, known, values)
    return np.where((x < known[0]) | (x > known[-1]), slope * x + offset, inside)


def _keep_out(projection: torch.nn.Linear, places: tuple[int, ...]) -> None:
    """The projection no longer writes to these numbers of the state."""
    projection.weight[list(places)] = 0
    if projection.bias is not None:
        projection.bias[list(places)] = 0


def _generation_config(name: str, tokenizer: Any) -> GenerationConfig:
    end = tokenizer.token_to_id("<|endoftext|>")
    return GenerationConfig(
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
        decoder_start_token_id=end + 1,
        is_multilingual=True,
        max_length=448,
        no_timestamps_token_id=tokenizer.token_to_id("<|notimestamps|>"),
        alignment_heads=ALIGNMENT_HEADS[name],
    )
