"""What a user would write in an afternoon: FastAPI with openai-whisper in the same process.

openai-whisper keeps its key-value cache in hooks on the model, so one request at a time may use it.
"""

from __future__ import annotations

import argparse
import io
import threading
from pathlib import Path
from typing import Any

import soundfile
import torch
import uvicorn
import whisper
from fastapi import FastAPI, UploadFile


def create_app(weights: Path, cores: int) -> FastAPI:
    """The whole service."""
    torch.set_num_threads(cores)
    app = FastAPI()
    model = whisper.load_model(str(weights / "openai.pt"), device="cpu")
    one_at_a_time = threading.Lock()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/audio/analyze")
    def analyze(file: UploadFile) -> dict[str, Any]:
        audio, _ = soundfile.read(io.BytesIO(file.file.read()), dtype="float32")
        with one_at_a_time:
            result = model.transcribe(
                audio,
                language="en",
                temperature=0.0,
                without_timestamps=True,
                fp16=False,
                compression_ratio_threshold=None,
                logprob_threshold=None,
                no_speech_threshold=None,
            )
        tokens = [token for s in result["segments"] for token in s["tokens"] if token < 50_257]
        return {"transcription": result["text"], "tokens": len(tokens)}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parsed = parser.parse_args()
    app = create_app(parsed.weights, parsed.cores)
    uvicorn.run(app, host="127.0.0.1", port=parsed.port, log_level="warning")
