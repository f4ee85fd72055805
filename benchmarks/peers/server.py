"""One peer behind HTTP, with as little around it as can be.

POST /audio/analyze takes a WAV as its body and answers
`{"transcription", "tokens", "timings_ms": {"queue", "compute"}}`; POST /windows takes float32
samples, as many windows as its header `x-batch` says. Clips that wait are handed to the engine
together as far as it takes them, so a batching engine gets the batches that it needs.
"""

from __future__ import annotations

import argparse
import io
import json
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from benchmarks.peers.interface import Floats, Heard, Transcriber, WindowModel
from benchmarks.peers.transcribers import (
    BatchedFasterWhisper,
    FasterWhisper,
    OpenAIWhisper,
    Transformers,
    WhisperCpp,
)
from benchmarks.peers.windows import SpeechBrainSpeaker, TransformersEmotion

TRANSCRIBERS: Final[dict[str, Callable[[Path, int], Transcriber]]] = {
    "faster-whisper-1x2": lambda weights, cores: FasterWhisper(weights, 1, cores),
    "faster-whisper-2x1": lambda weights, cores: FasterWhisper(weights, cores, 1),
    "faster-whisper-batched": BatchedFasterWhisper,
    "openai-whisper": OpenAIWhisper,
    "transformers-fp32": lambda weights, cores: Transformers(weights, cores, "float32"),
    "transformers-bf16": lambda weights, cores: Transformers(weights, cores, "bfloat16"),
    "whisper-cpp": WhisperCpp,
}
"""By name: weights and number of cores → engine. `2x1` is as many workers as cores, of one thread
each; the names are those of two cores."""

WINDOW_MODELS: Final[dict[str, Callable[[Path, int], WindowModel]]] = {
    "transformers-emotion": TransformersEmotion,
    "speechbrain-speaker": SpeechBrainSpeaker,
}


@dataclass(frozen=True)
class _Waiting:
    clip: Floats
    since: float = field(default_factory=time.perf_counter)
    answer: Future[dict[str, Any]] = field(default_factory=Future)


class Batches:
    """Hands waiting clips to the engine's workers."""

    def __init__(self, engine: Transcriber) -> None:
        self._engine = engine
        self._waiting: queue.Queue[_Waiting] = queue.Queue()
        for _ in range(engine.workers):
            threading.Thread(target=self._work, daemon=True).start()

    def ask(self, clip: Floats) -> dict[str, Any]:
        """Blocks until the clip is transcribed."""
        waiting = _Waiting(clip)
        self._waiting.put(waiting)
        return waiting.answer.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._engine.max_batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._answer(batch)

    def _answer(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            heard = self._engine.transcribe([waiting.clip for waiting in batch])
        except Exception as error:  # handed to every caller; the worker lives on
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        compute_ms = (time.perf_counter() - started) * 1000
        for waiting, one in zip(batch, heard, strict=True):
            waiting.answer.set_result(_answer(one, (started - waiting.since) * 1000, compute_ms))


def _answer(heard: Heard, queue_ms: float, compute_ms: float) -> dict[str, Any]:
    return {
        "transcription": heard.text,
        "tokens": heard.tokens,
        "timings_ms": {"queue": queue_ms, "compute": compute_ms},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    ask: Callable[[bytes, Any], dict[str, Any]]

    def do_GET(self) -> None:
        self._send(200, {"status": "ok"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            self._send(200, type(self).ask(body, self.headers))
        except Exception as error:  # the caller counts it as an error
            self._send(500, {"error": repr(error)})

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: a line for each request costs time."""

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def main() -> None:
    """Loads the engine, then serves until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[*TRANSCRIBERS, *WINDOW_MODELS])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parsed = parser.parse_args()
    if parsed.name in TRANSCRIBERS:
        batches = Batches(TRANSCRIBERS[parsed.name](parsed.weights, parsed.cores))

        def transcribe(body: bytes, _: Any) -> dict[str, Any]:
            audio, _rate = soundfile.read(io.BytesIO(body), dtype="float32")
            return batches.ask(audio)

        ask: Callable[[bytes, Any], dict[str, Any]] = transcribe
    else:
        model, turn = WINDOW_MODELS[parsed.name](parsed.weights, parsed.cores), threading.Lock()

        def run(body: bytes, headers: Any) -> dict[str, Any]:
            windows = np.frombuffer(body, np.float32).reshape(int(headers["x-batch"]), -1).copy()
            with turn:
                return {"outputs": model.run(windows).tolist()}

        ask = run
    handler = type("Handler", (_Handler,), {"ask": staticmethod(ask)})
    _Server(("127.0.0.1", parsed.port), handler).serve_forever()


if __name__ == "__main__":
    main()
