"""Triton's `whisper` model: speech to text, one whole batch at a time (python backend).

AUDIO: float32, (rows, samples), 16 kHz mono in [-1, 1], 1 to 480,000 samples. OPTIONS: bytes,
(rows, 1), a JSON object or nothing. TRANSCRIPT: bytes, (rows, 1), JSON. What a caller got wrong is
that request's own error; the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import triton_python_backend_utils as pb_utils

from clips import Clip, InvalidClip, parse_clip
from counters import Counters
from engine import EngineSettings, Provider
from transcriber import Transcriber
from transcript import Transcript, to_json


@dataclass(frozen=True)
class _Accepted:
    """A request that is worth running; `place` is its index among the batch's requests."""

    place: int
    request: Any
    clips: list[Clip]


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the version that this file lies in, and runs it once before it is ready."""
        folder = Path(__file__).resolve().parent
        config = json.loads(args["model_config"])
        self._transcriber = Transcriber(folder, _engine_settings(config, args))
        self._transcriber.warm_up()
        family = pb_utils.MetricFamily
        self._counters = Counters(family, family.COUNTER, args["model_version"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers each request of a batch with its transcripts or with its own error."""
        responses: list[Any] = [None] * len(requests)
        accepted: list[_Accepted] = []
        for place, request in enumerate(requests):
            if request.is_cancelled():
                responses[place] = self._cancelled()
                continue
            try:
                accepted.append(_Accepted(place, request, self._read(request)))
            except InvalidClip as error:
                self._counters.count("invalid")
                responses[place] = _failed(str(error), pb_utils.TritonError.INVALID_ARG)
        if accepted:
            self._answer(accepted, responses)
        return responses

    def _read(self, request: Any) -> list[Clip]:
        """The request's clips.

        Raises:
            InvalidClip: one of them can't be used.
        """
        audio = pb_utils.get_input_tensor_by_name(request, "AUDIO").as_numpy()
        options = pb_utils.get_input_tensor_by_name(request, "OPTIONS").as_numpy()
        if len(audio) != len(options):
            raise InvalidClip(f"{len(audio)} clips, but options for {len(options)}")
        return [
            parse_clip(np.array(samples, np.float32), bytes(option), self._transcriber.generation)
            for samples, option in zip(audio, options.reshape(-1), strict=True)
        ]

    def _answer(self, accepted: Sequence[_Accepted], responses: list[Any]) -> None:
        clips = [clip for item in accepted for clip in item.clips]
        questions = [item.request.is_cancelled for item in accepted for _ in item.clips]
        transcripts = iter(self._transcriber.transcribe(clips, questions))
        for item in accepted:
            own = [next(transcripts) for _ in item.clips]
            finished = [transcript for transcript in own if transcript is not None]
            if len(finished) < len(own):
                responses[item.place] = self._cancelled()
            else:
                audio_s = sum(clip.duration_s for clip in item.clips)
                responses[item.place] = self._respond(finished, audio_s)

    def _cancelled(self) -> Any:
        self._counters.count("cancelled")
        return _failed("the caller cancelled the request", pb_utils.TritonError.CANCELLED)

    def _respond(self, transcripts: Sequence[Transcript], audio_s: float) -> Any:
        try:
            texts = [to_json(transcript, self._transcriber.tokenizer) for transcript in transcripts]
        except ValueError as error:  # one of the probabilities isn't a number
            self._counters.count("failed")
            return _failed(str(error), pb_utils.TritonError.INTERNAL)
        self._counters.count("transcribed", audio_s)
        rows = np.array([[text.encode()] for text in texts], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("TRANSCRIPT", rows)])


def _engine_settings(config: dict[str, Any], args: dict[str, str]) -> EngineSettings:
    """The settings that config.pbtxt gives.

    Raises:
        ValueError: the execution provider isn't one of ours.
    """
    parameters = {name: entry["string_value"] for name, entry in config["parameters"].items()}
    provider, cache = parameters["execution_provider"], parameters.get("engine_cache")
    if provider not in get_args(Provider):
        raise ValueError(f"execution_provider {provider!r} isn't one of {get_args(Provider)}")
    return EngineSettings(
        provider=provider,
        intra_op_threads=int(parameters["intra_op_thread_count"]),
        device_id=int(args["model_instance_device_id"]),
        max_clips=int(config["max_batch_size"]),
        engine_cache=Path(cache) if cache else None,
    )


def _failed(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
