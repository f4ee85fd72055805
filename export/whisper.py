"""Whisper checkpoint → a version folder of the `whisper` model.

The version holds both graphs, the tokenizer, generation.json, and the Python files of the Triton
model, so that it serves the same whatever happens to the checkout afterwards.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Final

from export.types import Checkpoint, ExportOptions, ModelFacts
from export.whisper_checkpoint import TOKENIZER_FILE, load
from export.whisper_generation import GENERATION_FILE, generation_facts
from export.whisper_int8 import KEPT_FLOAT
from export.whisper_onnx import write_graphs
from export.whisper_parity import measure_parity

MODEL_SOURCE: Final = Path(__file__).resolve().parents[1] / "model_repository" / "whisper" / "1"
"""Where the Triton model's Python files are kept; every version folder gets a copy of them."""

WINDOW_S: Final = 30.0
"""Longest chunk that the service lets a checkpoint decode at once, unless its config.json has a
number `chunk_s`: a small one may do better on less than the whole window."""


def export(checkpoint: Checkpoint, options: ExportOptions, staging: Path) -> ModelFacts:
    """Writes every file of the version but its manifest into `staging`.

    Raises:
        CheckpointError: the checkpoint isn't a Whisper.
        ParityError: the exported graphs don't answer as PyTorch does.
    """
    loaded = load(checkpoint)
    facts = generation_facts(loaded)
    write_graphs(loaded.model, facts.alignment_heads, options, staging)
    parity = measure_parity(loaded.model, facts, staging, options.precision)
    loaded.tokenizer.save(str(staging / TOKENIZER_FILE), pretty=False)
    (staging / GENERATION_FILE).write_text(facts.to_json(), encoding="utf-8")
    for source in sorted(MODEL_SOURCE.glob("*.py")):
        shutil.copyfile(source, staging / source.name)
    chunk_s = float(getattr(loaded.model.config, "chunk_s", WINDOW_S))
    sizes = {**asdict(facts.sizes), "layers": facts.sizes.encoder_layers}
    return ModelFacts(
        facts={"sizes": sizes, "languages": list(facts.languages), "chunk_s": chunk_s},
        parity=parity,
        opset=options.opset,
        options={
            "alignment_heads": len(facts.alignment_heads),
            **({"kept_float": list(KEPT_FLOAT)} if options.precision == "int8" else {}),
        },
    )
