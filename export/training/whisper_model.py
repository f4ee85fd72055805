"""The tiny Whisper: Hugging Face's modules, initialised to learn within an hour of one core.

Two priors are built into the initial weights, both found to matter on so little data: encoder heads
start as local attention (computed on the sinusoidal position table), and two cross-attention heads
of the last decoder layer start as copiers of encoder positions, onto which the timestamp embeddings
are aligned, so that "what time is it here" needn't be learned from nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from export.training.whisper_vocabulary import CompactVocabulary

D_MODEL = 128
HEADS = 4
HEAD_DIM = D_MODEL // HEADS
ENCODER_LAYERS = 4
DECODER_LAYERS = 2
FEED_FORWARD = 512
NUM_MELS = 80
NUM_POSITIONS = 1500
# Heads of the last decoder layer whose cross-attention is guided to the audio of each token.
ALIGNMENT_HEADS = (0, 1)
# Classes of an encoder frame: silence, the ten digits, other speech.
NUM_FRAME_CLASSES = 12
# Above this length torch's fused attention beats the plain one on a CPU in bfloat16 (measured).
FUSED_ATTENTION_FRAMES = 700

# Per encoder layer: how far (in 20 ms frames) three of the four heads look to the side at first,
# and the first of the 16 frequencies of the position table that they use (higher = blurrier).
_LOCAL_SHIFTS = ((-3, 0, 3), (-8, 2, 8), (-5, 5, 14), (-12, 0, 12))
_LOCAL_FREQUENCIES = (0, 4, 8, 8)


def whisper_config(vocab_size: int, **overrides: object) -> WhisperConfig:
    """The architecture; special token ids are left at 0 unless overridden."""
    settings: dict[str, object] = {
        "vocab_size": vocab_size,
        "num_mel_bins": NUM_MELS,
        "d_model": D_MODEL,
        "encoder_layers": ENCODER_LAYERS,
        "decoder_layers": DECODER_LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FEED_FORWARD,
        "decoder_ffn_dim": FEED_FORWARD,
        "dropout": 0.0,
        "max_source_positions": NUM_POSITIONS,
        "max_target_positions": 448,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "decoder_start_token_id": 0,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "attn_implementation": "eager",
    }
    return WhisperConfig(**(settings | overrides))


class TrainableWhisper(nn.Module):  # torch is untyped to mypy here
    """The compact-vocabulary Whisper and the auxiliary heads that only training uses."""

    def __init__(self, vocabulary: CompactVocabulary) -> None:
        super().__init__()
        self.whisper = WhisperForConditionalGeneration(whisper_config(vocabulary.size))
        self.frame_head = nn.Linear(D_MODEL, NUM_FRAME_CLASSES)
        self.digit_head = nn.Linear(D_MODEL, 10)
        with torch.no_grad():
            _initialise(self.whisper, vocabulary)

    def encode(self, mel: Tensor, offsets: Tensor) -> Tensor:
        """Encode windows of any length placed anywhere on the position table.

        Args:
            mel: float32, shape (batch, 80, 2 * frames), Whisper's normalised log-mel.
            offsets: int64, shape (batch,): each window's first position, offset + frames <= 1500.

        Returns:
            Hidden states, shape (batch, frames, 128), one per 20 ms.
        """
        encoder = self.whisper.model.encoder
        hidden = F.gelu(encoder.conv1(mel))
        hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
        positions = offsets[:, None] + torch.arange(hidden.shape[1])
        hidden = hidden + encoder.embed_positions.weight[positions]
        for layer in encoder.layers:
            hidden = hidden + _attend(layer.self_attn, layer.self_attn_layer_norm(hidden))
            hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
        return encoder.layer_norm(hidden)

    def decode(self, encoded: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced decoding.

        Args:
            encoded: shape (batch, frames, 128).
            tokens: compact indices, int64, shape (batch, length).

        Returns:
            Logits (batch, length, compact vocabulary) and the last layer's cross-attention
            (batch, heads, length, frames).
        """
        decoder = self.whisper.model.decoder
        output = decoder(
            input_ids=tokens,
            encoder_hidden_states=encoded,
            use_cache=False,
            output_attentions=True,
        )
        logits = output.last_hidden_state @ decoder.embed_tokens.weight.T
        return logits, output.cross_attentions[-1]


def _attend(attention: nn.Module, hidden: Tensor) -> Tensor:
    """Self-attention by a Hugging Face module's weights, twice as fast in bfloat16 on a CPU.

    Autocast would run the softmax in float32 and copy the scores to and fro.
    """
    batch, frames, _ = hidden.shape

    def heads(projected: Tensor) -> Tensor:
        return projected.view(batch, frames, HEADS, HEAD_DIM).transpose(1, 2)

    query = heads(attention.q_proj(hidden) * HEAD_DIM**-0.5)
    key, value = heads(attention.k_proj(hidden)), heads(attention.v_proj(hidden))
    with torch.autocast("cpu", enabled=False):
        if frames > FUSED_ATTENTION_FRAMES:
            mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        else:
            mixed = torch.softmax(query @ key.transpose(-1, -2), -1) @ value
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, D_MODEL))


def _initialise(whisper: WhisperForConditionalGeneration, vocabulary: CompactVocabulary) -> None:
    encoder, decoder = whisper.model.encoder, whisper.model.decoder
    for name, weight in whisper.named_parameters():
        if weight.dim() == 2 and "embed" not in name and "proj_out" not in name:
            residual = name.endswith(("out_proj.weight", "fc2.weight"))
            nn.init.xavier_uniform_(weight, gain=math.sqrt(0.5) if residual else 1.0)
    for conv in (encoder.conv1, encoder.conv2):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
    encoder.conv2.weight.mul_(1.5)
    decoder.embed_positions.weight.normal_(0, 0.05)
    decoder.embed_tokens.weight.normal_(0, 0.05)
    for layer, shifts, frequency in zip(
        encoder.layers, _LOCAL_SHIFTS, _LOCAL_FREQUENCIES, strict=True
    ):
        for head, shift in enumerate(shifts):
            _attend_at_shift(layer.self_attn, head, shift, frequency)
    for head in ALIGNMENT_HEADS:
        _copy_positions(decoder.layers[-1].encoder_attn, head)
    first = vocabulary.first_timestamp
    timestamps = decoder.embed_tokens.weight[first : first + NUM_POSITIONS]
    timestamps.add_(encoder.embed_positions.weight, alpha=0.12)


def _attend_at_shift(attention: nn.Module, head: int, shift: int, first_frequency: int) -> None:
    """Make a head's query at frame t match the key at frame t + shift, by rotating sine pairs.

    The position table holds sin(t w_k) in column k and cos(t w_k) in column 64 + k.
    """
    half, sharpness = D_MODEL // 2, 1.7
    query, key = attention.q_proj.weight, attention.k_proj.weight
    for pair in range(HEAD_DIM // 2):
        column, row = first_frequency + pair, head * HEAD_DIM + 2 * pair
        angle = shift * math.exp(-math.log(10_000) / (half - 1) * column)
        cos, sin = sharpness * math.cos(angle), sharpness * math.sin(angle)
        for weight in (query, key):
            weight[row : row + 2] *= 0.1
        key[row, column] += sharpness
        key[row + 1, half + column] += sharpness
        query[row, column] += cos
        query[row, half + column] += sin
        query[row + 1, column] -= sin
        query[row + 1, half + column] += cos


def _copy_positions(attention: nn.Module, head: int) -> None:
    """Make a head pass a quarter of the encoder's position columns on to the residual stream."""
    half, pairs = D_MODEL // 2, HEAD_DIM // 2
    value, output = attention.v_proj.weight, attention.out_proj.weight
    for pair in range(pairs):
        column, row = head * pairs + pair, head * HEAD_DIM + 2 * pair
        value[row : row + 2] *= 0.1
        output[:, row : row + 2] *= 0.1
        for side in (0, 1):
            value[row + side, column + side * half] += 1
            output[column + side * half, row + side] += 1
