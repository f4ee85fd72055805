"""Whisper as two graphs: an encoder that runs once per clip, a decoder that runs once per token.

The encoder takes PCM and answers with the cross-attention keys and values of every decoder layer,
so that no step computes them again. The decoder is one graph of dynamic length: the same weights
serve the prompt (many tokens, empty cache), a step (one token), and the pass over finished tokens
from which word times are read.

The decoder reads, for each clip of a batch, a group of rows: one, or the beams of a search. They
share the clip's keys and values, which are neither repeated nor read more than once.

Clips of a batch may have prompts of different length: they are padded on the left, and `padding`
tells how many columns of a clip's rows are padding. Positions and the attention mask follow from it
inside the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration

from export.whisper_mel import LogMel

CLIP_SAMPLES: Final = 480_000
"""30 s at 16 kHz: what Whisper's encoder always sees."""

ENCODER_FRAMES: Final = 1500
"""Positions of the encoder's output, 20 ms each."""


@dataclass(frozen=True)
class WhisperSizes:
    """What tells one Whisper from another; `positions` are the decoder's, `vocab` the logits'."""

    d_model: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    mels: int
    vocab: int
    positions: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.heads


def sizes_of(model: WhisperForConditionalGeneration) -> WhisperSizes:
    """Reads the sizes from the model's configuration."""
    config = model.config
    return WhisperSizes(
        d_model=config.d_model,
        heads=config.decoder_attention_heads,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        mels=config.num_mel_bins,
        vocab=config.vocab_size,
        positions=config.max_target_positions,
    )


class EncoderGraph(nn.Module):
    """PCM → cross-attention keys and values of every decoder layer.

    `fused_attention` writes attention as onnxruntime's `MultiHeadAttention`, which its CPU and CUDA
    providers run without ever holding the 1500 × 1500 scores; TensorRT knows plain operators only.
    """

    def __init__(self, model: WhisperForConditionalGeneration, fused_attention: bool) -> None:
        super().__init__()
        self.log_mel = LogMel(model.config.num_mel_bins)
        self.encoder = model.get_encoder()
        self.cross = nn.ModuleList(layer.encoder_attn for layer in model.get_decoder().layers)
        self.packed = nn.ModuleList(_packed_qkv(layer.self_attn) for layer in self.encoder.layers)
        self.heads: int = model.config.encoder_attention_heads
        self.cross_heads: int = model.config.decoder_attention_heads
        self.fused_attention = fused_attention

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        """audio: float32, (batch, 480000).

        Returns, layer by layer, keys (batch, heads, head_dim, 1500), stored transposed as the
        decoder multiplies them, and values (batch, heads, 1500, head_dim).
        """
        encoder = self.encoder
        hidden = self.log_mel(audio).to(encoder.conv1.weight.dtype)
        hidden = _gelu(encoder.conv1(hidden))
        hidden = _gelu(encoder.conv2(hidden)).transpose(1, 2) + encoder.embed_positions.weight
        for layer, packed in zip(encoder.layers, self.packed, strict=True):
            query, key, value = packed(_normalise(layer.self_attn_layer_norm, hidden)).chunk(3, -1)
            hidden = hidden + layer.self_attn.out_proj(self._attend(query, key, value))
            hidden = hidden + _feed_forward(layer, hidden)
        return tuple(self.cross_attention(_normalise(encoder.layer_norm, hidden)))

    def cross_attention(self, hidden: Tensor) -> list[Tensor]:
        """The encoder's output (batch, 1500, d_model) as every decoder layer's keys and values."""
        answer: list[Tensor] = []
        for cross in self.cross:
            answer.append(
                cross.k_proj(hidden).unflatten(-1, (self.cross_heads, -1)).permute(0, 2, 3, 1)
            )
            answer.append(_split_heads(cross.v_proj(hidden), self.cross_heads))
        return answer

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention over the clip; tensors (batch, 1500, d_model), queries already scaled."""
        if self.fused_attention and torch.onnx.is_in_onnx_export():
            fused: Tensor = torch.onnx.ops.symbolic(
                "com.microsoft::MultiHeadAttention",
                (query, key, value),
                {"num_heads": self.heads, "scale": 1.0},
                dtype=query.dtype,
                shape=query.shape,
                version=1,
            )
            return fused
        scores = _split_heads(query, self.heads) @ _split_heads(key, self.heads).transpose(2, 3)
        mixed = torch.softmax(scores, dim=-1) @ _split_heads(value, self.heads)
        return _join_heads(mixed)


class DecoderGraph(nn.Module):
    """Tokens and caches → logits, scores of the alignment heads, and the longer cache.

    `alignment_heads` are (layer, head) pairs in ascending order. Rows of the token embedding that
    are equal, as all rows of tokens that a small checkpoint never saw, are stored once: `rows` maps
    each token to its stored row.
    """

    def __init__(
        self, model: WhisperForConditionalGeneration, alignment_heads: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__()
        self.decoder = model.get_decoder()
        self.packed = nn.ModuleList(_packed_qkv(layer.self_attn) for layer in self.decoder.layers)
        self.heads: int = model.config.decoder_attention_heads
        self.alignment_heads = alignment_heads
        table, rows = _distinct_rows(self.decoder.embed_tokens.weight.detach())
        self.table = nn.Parameter(table, requires_grad=False)
        self.rows: Tensor | None
        self.register_buffer("rows", rows)

    def forward(
        self,
        tokens: Tensor,
        padding: Tensor,
        logit_positions: Tensor,
        past: list[Tensor],
        cross: list[Tensor],
    ) -> tuple[Tensor, ...]:
        """One pass over `tokens`.

        tokens: int64, (clips, group, length), padded on the left; padding: int64, (clips,), padding
        columns of each clip's rows, counted from the start of the cache; logit_positions: int64,
        (count,), which of the `length` columns need logits; past: per layer key and value, (clips,
        group, heads, past, head_dim); cross: the encoder's answer.

        Returns logits, float32, (clips, group, count, vocab); alignment, float32, (clips, alignment
        heads, group * length, 1500), the heads' cross-attention scores before the softmax; per
        layer key and value, (clips, group, heads, past + length, head_dim).
        """
        decoder = self.decoder
        length, past_length = tokens.shape[2], past[0].shape[3]
        columns = torch.arange(past_length + length)
        own_columns = columns[past_length:]
        positions = torch.clamp(own_columns.unsqueeze(0) - padding.unsqueeze(1), min=0)
        causal = columns.unsqueeze(0) <= own_columns.unsqueeze(1)
        allowed = causal.unsqueeze(0) & (columns.unsqueeze(0) >= padding.unsqueeze(1)).unsqueeze(1)
        stored = tokens if self.rows is None else self.rows[tokens]
        places = decoder.embed_positions.weight[positions]
        hidden = F.embedding(stored, self.table) + places.unsqueeze(1)
        present: list[Tensor] = []
        alignment: list[Tensor] = []
        for index, (layer, packed) in enumerate(zip(decoder.layers, self.packed, strict=True)):
            normed = _normalise(layer.self_attn_layer_norm, hidden)
            query, key, value = (_split_heads(x, self.heads) for x in packed(normed).chunk(3, -1))
            key = torch.cat([past[2 * index], key], dim=3)
            value = torch.cat([past[2 * index + 1], value], dim=3)
            present += [key, value]
            scores = _masked(query @ key.transpose(-1, -2), allowed.unsqueeze(1).unsqueeze(1))
            mixed = _join_heads(torch.softmax(scores, dim=-1) @ value)
            hidden = hidden + layer.self_attn.out_proj(mixed)
            scores, mixed = self._attend_clip(layer, hidden, cross[2 * index], cross[2 * index + 1])
            alignment += [scores[:, head] for at, head in self.alignment_heads if at == index]
            hidden = hidden + layer.encoder_attn.out_proj(mixed)
            hidden = hidden + _feed_forward(layer, hidden)
        hidden = _normalise(decoder.layer_norm, hidden.index_select(2, logit_positions))
        return (self._logits(hidden), torch.stack(alignment, dim=1).float(), *present)

    def _attend_clip(
        self, layer: nn.Module, hidden: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A group's rows look at their clip as one long row.

        hidden: (clips, group, length, d_model). Returns scores (clips, heads, group * length, 1500)
        and mixed values, shaped like `hidden`.
        """
        attention = layer.encoder_attn
        normed = _normalise(layer.encoder_attn_layer_norm, hidden).flatten(1, 2)
        query = _split_heads(attention.q_proj(normed) * attention.head_dim**-0.5, self.heads)
        scores = query @ key
        mixed = _join_heads(torch.softmax(scores, dim=-1) @ value)
        return scores, mixed.unflatten(1, hidden.shape[1:3])

    def _logits(self, hidden: Tensor) -> Tensor:
        """(clips, group, count, d_model) → (clips, group, count, vocab), as a Gemm on the table."""
        logits = F.linear(hidden.flatten(0, 2), self.table).float()
        if self.rows is not None:
            logits = logits.index_select(1, self.rows)
        return logits.unflatten(0, hidden.shape[:3])


def _split_heads(hidden: Tensor, heads: int) -> Tensor:
    """(…, length, d_model) → (…, heads, length, head_dim)."""
    return hidden.unflatten(-1, (heads, -1)).transpose(-2, -3)


def _join_heads(mixed: Tensor) -> Tensor:
    """(…, heads, length, head_dim) → (…, length, d_model)."""
    return mixed.transpose(-2, -3).flatten(-2)


def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
    """Replaces the forbidden scores: a row of padding then has equal ones, and no NaN."""
    return torch.where(allowed, scores, torch.finfo(scores.dtype).min)


def _normalise(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """Layer norm in float32: in float16 its squares overflow without a trace."""
    bias = None if norm.bias is None else norm.bias.float()
    normed = F.layer_norm(
        hidden.float(), norm.normalized_shape, norm.weight.float(), bias, norm.eps
    )
    return normed.to(hidden.dtype)


def _feed_forward(layer: nn.Module, hidden: Tensor) -> Tensor:
    result: Tensor = layer.fc2(_gelu(layer.fc1(_normalise(layer.final_layer_norm, hidden))))
    return result


def _gelu(hidden: Tensor) -> Tensor:
    """Exact GELU, in the order in which onnxruntime knows it and runs it as one operator."""
    return (hidden * (torch.erf(hidden / math.sqrt(2)) + 1.0)) * 0.5


def _packed_qkv(attention: nn.Module) -> nn.Linear:
    """Query, key and value projections as one matrix; the query's rows carry the scale."""
    scale = attention.head_dim**-0.5
    query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
    packed = nn.Linear(
        query.in_features, 3 * query.out_features, dtype=query.weight.dtype, device="meta"
    )
    weight = torch.cat([query.weight * scale, key.weight, value.weight])
    bias = torch.cat([query.bias * scale, torch.zeros_like(query.bias), value.bias])
    packed.weight = nn.Parameter(weight.detach(), requires_grad=False)
    packed.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return packed


def _distinct_rows(weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Stores equal rows once when that at least halves the table; else the table as it is and no
    map.

    weight: (vocab, d_model). Returns the table (distinct, d_model) and int64 (vocab,) or None.
    """
    values = np.ascontiguousarray(weight.numpy())
    as_bytes = values.view(np.dtype((np.void, values.itemsize * values.shape[1]))).ravel()
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    if 2 * first.size > weight.shape[0]:
        return weight, None
    return torch.from_numpy(values[first]), torch.from_numpy(inverse)
