"""Write a trained state as a Hugging Face Whisper folder.

``python -m export.training.whisper_export --state OUT/state.pt --out DIR``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from export.training.tokenizer import save_tokenizer
from export.training.whisper_model import (
    ALIGNMENT_HEADS,
    DECODER_LAYERS,
    TrainableWhisper,
    whisper_config,
)
from export.training.whisper_train import load_state
from export.training.whisper_vocabulary import (
    END_OF_TEXT,
    FULL_SIZE,
    NO_TIMESTAMPS,
    START_OF_PREVIOUS,
    START_OF_TRANSCRIPT,
    TRANSCRIBE,
    TRANSLATE,
    CompactVocabulary,
    compact_vocabulary,
    openai_tokenizer,
)

CHUNK_S = 10.0
"""What the service should decode at once. A voice never heard, strings of 11 to 25 digits at 30 dB
through the service: 6.9% of words wrong with chunks of up to 8 s, 7.2% with 10 s, 8.1% with 12 s,
13.4% with 20 s and more."""


def export_checkpoint(state: Path, folder: Path) -> None:
    """Write the averaged weights of a state, in float16 and with the full vocabulary, to a folder.

    Files: config.json, generation_config.json, model.safetensors, preprocessor_config.json, and the
    fast tokenizer's.
    """
    vocabulary = compact_vocabulary()
    model = TrainableWhisper(vocabulary)
    model.load_state_dict(load_state(state)["average"])
    full = expand_vocabulary(model, vocabulary)
    full.generation_config = generation_config()
    full.config.chunk_s = CHUNK_S
    full.half().save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    save_tokenizer(folder)


def expand_vocabulary(
    model: TrainableWhisper, vocabulary: CompactVocabulary
) -> WhisperForConditionalGeneration:
    """The same network with all 51,865 token rows; those never trained share one row's values."""
    full = WhisperForConditionalGeneration(
        whisper_config(
            FULL_SIZE,
            bos_token_id=END_OF_TEXT,
            eos_token_id=END_OF_TEXT,
            pad_token_id=END_OF_TEXT,
            decoder_start_token_id=START_OF_TRANSCRIPT,
        )
    )
    weights = dict(model.whisper.state_dict())
    rows = full_embedding(weights["model.decoder.embed_tokens.weight"], vocabulary)
    weights["model.decoder.embed_tokens.weight"] = rows
    weights["proj_out.weight"] = rows
    full.load_state_dict(weights)
    full.tie_weights()
    return full.eval()


def full_embedding(compact: Tensor, vocabulary: CompactVocabulary) -> Tensor:
    """Compact embedding (ids in use + 1, width) to the full one (51,865, width)."""
    rows = compact[vocabulary.unused].repeat(FULL_SIZE, 1)
    rows[list(vocabulary.ids)] = compact[: vocabulary.unused]
    return rows


def generation_config() -> GenerationConfig:
    """Whisper's generation settings: languages, tasks, timestamps, and the alignment heads.

    No token is suppressed: the model has never seen the symbols that the real one must not write.
    """
    tokenizer = openai_tokenizer()
    specials = tokenizer.special_tokens
    codes = tokenizer.all_language_codes
    return GenerationConfig(
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
        pad_token_id=END_OF_TEXT,
        decoder_start_token_id=START_OF_TRANSCRIPT,
        prev_sot_token_id=START_OF_PREVIOUS,
        no_timestamps_token_id=NO_TIMESTAMPS,
        max_initial_timestamp_index=50,
        max_length=448,
        is_multilingual=True,
        return_timestamps=False,
        lang_to_id={f"<|{code}|>": specials[f"<|{code}|>"] for code in codes},
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        alignment_heads=[[DECODER_LAYERS - 1, head] for head in ALIGNMENT_HEADS],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m export.training.whisper_export",
        description="Write a trained tiny Whisper as a Hugging Face folder (float16, safetensors).",
    )
    parser.add_argument("--state", type=Path, required=True, help="OUT/state.pt of a run")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    export_checkpoint(options.state, options.out)
    size_mb = (options.out / "model.safetensors").stat().st_size / 1e6
    print(f"wrote {options.out} ({size_mb:.1f} MB of weights)")


if __name__ == "__main__":
    main()
