"""Made-up Whisper weights that write a token for every 0.3 s of speech."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.load.clips import clip_audio, speech
from benchmarks.weights import END_OF_TEXT, TOKEN_S, Size
from benchmarks.weights import _features as features
from benchmarks.weights import make


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_number_of_tokens_follows_the_length_of_the_speech() -> None:
    """However an engine fills up the 30 s: openai-whisper's `transcribe` and faster-whisper put
    zeros behind the spectrogram, `decode` and transformers silence behind the samples; with zeros
    taken for sound, the former wrote three times as many tokens for 10 s.
    """
    model = make(Size(d_model=192, heads=3, layers=2))
    pool = speech()
    for length_s in (5.0, 20.0):
        audio = clip_audio(pool, length_s, np.random.default_rng(8))
        silence_behind = features(audio)
        zeros_behind = silence_behind.clone()
        zeros_behind[..., round(100 * length_s) :] = 0
        for frames in (silence_behind, zeros_behind):
            tokens = _decode(model, frames)
            assert len(tokens) == pytest.approx(length_s / TOKEN_S, abs=2.5)
            assert len(set(tokens)) > len(tokens) / 2, "what repeats itself is decoded again"


def _decode(model: torch.nn.Module, frames: torch.Tensor) -> list[int]:
    fresh, tokens, past = [50_258, 50_259, 50_359, 50_363], list[int](), None
    with torch.no_grad():
        encoded = model.get_encoder()(frames)
        while len(tokens) < 140:
            step = model(
                encoder_outputs=encoded,
                decoder_input_ids=torch.tensor([fresh]),
                past_key_values=past,
                use_cache=True,
            )
            past, fresh = step.past_key_values, [int(step.logits[0, -1].argmax())]
            if fresh == [END_OF_TEXT]:
                break
            tokens += fresh
    return tokens
