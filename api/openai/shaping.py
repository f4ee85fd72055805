"""`Analysis` → OpenAI's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from api import formats
from api.openai.languages import NAMES
from api.openai.schemas import TranscriptionRequest, TranslationRequest
from api.types import Analysis, Segment, TokenLogprob

Answer = dict[str, Any] | str

ENCODER_POSITIONS_PER_S = 50
"""Whisper's encoder gives one state per 20 ms (Radford et al. 2022): our audio tokens."""

_FRAMES_PER_S = 100
"""`seek` counts frames of the log-mel spectrogram, 10 ms each, as openai-whisper does."""

_TEXTS: dict[str, Callable[[Analysis], str]] = {
    "text": lambda analysis: f"{analysis.transcription}\n",
    "srt": lambda analysis: formats.srt(analysis, whole_segments=True),
    "vtt": lambda analysis: formats.vtt(analysis, whole_segments=True),
}


def transcription(analysis: Analysis, request: TranscriptionRequest) -> Answer:
    """The answer in the format that was asked for; a `str` for text, srt and vtt."""
    form = request.response_format
    if form in _TEXTS:
        return _TEXTS[form](analysis)
    if form == "verbose_json":
        answer = _verbose(analysis, "transcribe", NAMES.get(analysis.language or "", ""))
        if "segment" not in request.granularities:
            del answer["segments"]
        if "word" in request.granularities:
            answer["words"] = words(analysis.segments)
        return {**answer, "usage": seconds_used(analysis)}
    if form == "diarized_json":
        return {
            "task": "transcribe",
            "duration": analysis.duration,
            "text": analysis.transcription,
            "segments": diarized(analysis, request.known_speaker_names),
            "usage": seconds_used(analysis),
        }
    plain: dict[str, Any] = {"text": analysis.transcription, "usage": seconds_used(analysis)}
    if request.include:
        plain["logprobs"] = logprobs(t for s in analysis.segments for t in s.logprobs)
    return plain


def translation(analysis: Analysis, request: TranslationRequest) -> Answer:
    """Likewise; what is translated is English, whatever was spoken."""
    form = request.response_format
    if form in _TEXTS:
        return _TEXTS[form](analysis)
    if form == "verbose_json":
        return _verbose(analysis, "translate", NAMES["en"])
    return {"text": analysis.transcription}


def diarized(analysis: Analysis, known: Sequence[str]) -> list[dict[str, Any]]:
    """Segments with speakers: known ones by name, strangers as A, B, … by first appearance."""
    names = {name: name for name in known}
    letters = (letter for letter in _letters() if letter not in known)
    shaped = []
    for number, segment in enumerate(analysis.segments):
        speaker = segment.speaker or ""
        if speaker not in names:
            names[speaker] = next(letters)
        shaped.append(
            {
                "type": "transcript.text.segment",
                "id": f"seg_{number}",
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "speaker": names[speaker],
            }
        )
    return shaped


def words(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Words with times, without the spaces around them."""
    return [
        {"word": word.word.strip(), "start": word.start, "end": word.end}
        for segment in segments
        for word in segment.words
    ]


def logprobs(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens with their bytes and the natural log of their probability."""
    return [{"token": t.token, "bytes": list(t.bytes), "logprob": t.logprob} for t in tokens]


def seconds_used(analysis: Analysis) -> dict[str, Any]:
    """OpenAI's `usage` of type duration."""
    return {"type": "duration", "seconds": analysis.duration}


def tokens_used(duration_s: float, output_tokens: int) -> dict[str, Any]:
    """OpenAI's `usage` of type tokens: audio in, text and timestamps out, without the prompt."""
    audio_tokens = math.ceil(duration_s * ENCODER_POSITIONS_PER_S)
    return {
        "type": "tokens",
        "input_tokens": audio_tokens,
        "input_token_details": {"audio_tokens": audio_tokens, "text_tokens": 0},
        "output_tokens": output_tokens,
        "total_tokens": audio_tokens + output_tokens,
    }


def _verbose(analysis: Analysis, task: str, language: str) -> dict[str, Any]:
    return {
        "task": task,
        "language": language,
        "duration": analysis.duration,
        "text": analysis.transcription,
        "segments": [_segment(number, s) for number, s in enumerate(analysis.segments)],
    }


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment.window_start * _FRAMES_PER_S),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def _letters() -> Iterator[str]:
    """A to Z, AA, AB, … as the columns of a spreadsheet are named."""
    for number in count(1):
        name = ""
        while number:
            number, digit = divmod(number - 1, 26)
            name = chr(ord("A") + digit) + name
        yield name
