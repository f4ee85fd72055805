"""OpenAI's contract without a server: fields, answers, events, errors, known voices."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.types import Message

from api.endpoints.openai import EventStream
from api.errors import DeadlineExceeded
from api.metrics import Metrics
from api.openai import errors, events, known_speakers, shaping
from api.openai.catalog import Catalog
from api.openai.errors import InvalidParameter, UnknownModel
from api.openai.schemas import TranscriptionRequest, TranslationRequest, parse
from api.pipeline import OnSegments
from api.repository import Manifest
from api.types import (
    Analysis,
    Conversation,
    Quality,
    Segment,
    TokenLogprob,
    Waveform,
    Word,
)

ANALYSIS = Analysis(
    id="0" * 32,
    duration=4.01,
    language="en",
    segments=(
        Segment(
            start=0.5,
            end=1.0,
            text=" four",
            words=(Word(" four", 0.5, 1.0, 0.9),),
            tokens=(50364, 1451, 50389),
            speaker="SPEAKER_00",
            no_speech_prob=0.01,
            avg_logprob=-0.2,
            compression_ratio=0.8,
            logprobs=(TokenLogprob(" four", (32, 102, 111, 117, 114), -0.1),),
            window_start=0.43,
        ),
        Segment(1.0, 1.2, " ", speaker="SPEAKER_01"),
        Segment(2.0, 3.0, " two", tokens=(732,), speaker="anna"),
    ),
    turns=(),
    speakers=(),
    emotions=(),
    conversation=Conversation({}, 0.0, 0, 0.0, {}),
    quality=Quality(1.5, 0, 0.0, ()),
    models={},
    timings_ms={},
)


def asked(*fields: tuple[str, str]) -> TranscriptionRequest:
    return parse(TranscriptionRequest, [("model", "whisper-1"), *fields])


def test_the_fields_of_the_sdk_and_of_curl_are_read() -> None:
    request = asked(
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("temperature", "0.4"),
        ("prompt", "{not json}"),
        ("language", "en"),
        ("stream", ""),
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[silence_duration_ms]", "700"),
        ("chunking_strategy[prefix_padding_ms]", "0"),
    )
    assert request.granularities == {"word", "segment"}
    options = request.options()
    assert (options.prompt, options.temperature, options.language) == ("{not json}", 0.4, "en")
    assert (options.min_silence_s, options.pad_start_s, options.speech_threshold) == (0.7, 0, None)
    assert options.word_timestamps and not options.diarize and not options.emotions
    curl = asked(("chunking_strategy", '{"type": "server_vad", "threshold": 0.6}'))
    assert curl.options().speech_threshold == 0.6


def test_diarized_json_asks_for_speakers() -> None:
    options = asked(("response_format", "diarized_json"), ("chunking_strategy", "auto")).options()
    assert options.diarize and options.word_timestamps


def test_translation_is_asked_of_whisper() -> None:
    request = parse(TranslationRequest, [("model", "whisper-1"), ("prompt", "Hello")])
    assert (request.options().task, request.options().prompt) == ("translate", "Hello")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("temperature", "1.1")], "temperature"),
        ([("temperature", "nan")], "temperature"),
        ([("response_format", "xml")], "response_format"),
        ([("best_of", "3")], "best_of"),
        ([("keywords[]", "a")], "keywords"),
        ([("prompt", "a"), ("prompt", "b")], "prompt"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities"),
        (
            [("timestamp_granularities[]", "letter"), ("response_format", "verbose_json")],
            "timestamp_granularities",
        ),
        ([("include[]", "logprobs"), ("response_format", "text")], "include"),
        ([("include[]", "words")], "include"),
        ([("stream", "true"), ("response_format", "srt")], "stream"),
        ([("stream", "perhaps")], "stream"),
        ([("chunking_strategy", "manual")], "chunking_strategy"),
        ([("chunking_strategy", "{")], "chunking_strategy"),
        ([("chunking_strategy[type]", "semantic_vad")], "chunking_strategy"),
        (
            [("chunking_strategy", '{"type": "server_vad", "treshold": 0.5}')],
            "chunking_strategy",
        ),
        ([("known_speaker_names[]", "anna")], "known_speaker_names"),
        (
            [("known_speaker_names[]", "anna"), ("response_format", "diarized_json")],
            "known_speaker_references",
        ),
    ],
)
def test_what_has_no_effect_is_refused(fields: list[tuple[str, str]], param: str) -> None:
    """Fields that were taken and not obeyed misled callers elsewhere (speaches#639)."""
    with pytest.raises(InvalidParameter) as refused:
        asked(*fields)
    assert refused.value.details["param"] == param


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["a", "a"], "one name"),
        (["SPEAKER_01"], "strangers"),
        (["a", "b", "c", "d", "e"], "at most 4"),
        ([""], "at least 1"),
    ],
)
def test_names_that_cannot_tell_people_apart_are_refused(names: list[str], complaint: str) -> None:
    fields = [("known_speaker_names[]", name) for name in names]
    fields += [("known_speaker_references[]", "data:,x") for _ in names]
    with pytest.raises(InvalidParameter, match=complaint):
        asked(("response_format", "diarized_json"), *fields)


def test_translations_take_no_language() -> None:
    with pytest.raises(InvalidParameter, match="isn't supported"):
        parse(TranslationRequest, [("model", "whisper-1"), ("language", "de")])


def test_verbose_json_has_every_field() -> None:
    answer = shaping.transcription(ANALYSIS, asked(("response_format", "verbose_json")))
    assert isinstance(answer, dict)
    assert answer["segments"][0] == {
        "id": 0,
        "seek": 43,
        "start": 0.5,
        "end": 1.0,
        "text": " four",
        "tokens": [50364, 1451, 50389],
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "compression_ratio": 0.8,
        "no_speech_prob": 0.01,
    }
    assert [s["id"] for s in answer["segments"]] == [0, 1, 2]
    assert (answer["task"], answer["language"], answer["duration"]) == (
        "transcribe",
        "english",
        4.01,
    )
    assert answer["usage"] == {"type": "duration", "seconds": 4.01}
    assert "words" not in answer


def test_silence_has_no_language() -> None:
    silent = replace(ANALYSIS, language=None, segments=())
    answer = shaping.transcription(silent, asked(("response_format", "verbose_json")))
    assert isinstance(answer, dict)
    assert (answer["text"], answer["language"], answer["segments"]) == ("", "", [])


def test_strangers_are_letters_and_known_people_their_names() -> None:
    assert [s["speaker"] for s in shaping.diarized(ANALYSIS, ["anna"])] == ["A", "B", "anna"]
    assert [s["speaker"] for s in shaping.diarized(ANALYSIS, ["anna", "A"])][:2] == ["B", "C"]
    crowd = replace(
        ANALYSIS, segments=tuple(Segment(0, 1, "x", speaker=f"SPEAKER_{n}") for n in range(28))
    )
    assert [s["speaker"] for s in shaping.diarized(crowd, [])][25:] == ["Z", "AA", "AB"]


def test_a_catalog_refuses_what_does_not_serve() -> None:
    content = {
        "checkpoint": "openai/whisper-base",
        "created": "2026-01-02T03:04:05+00:00",
        "languages": ["en", "de"],
    }
    catalog = Catalog.of(Manifest("whisper", "1", content))
    assert catalog.names == ("whisper-1", "whisper", "openai/whisper-base")
    assert catalog.describe("openai/whisper-base")["created"] == 1767323045
    catalog.check("whisper-1", "de")
    with pytest.raises(InvalidParameter, match="'fr'"):
        catalog.check("whisper-1", "fr")
    with pytest.raises(UnknownModel, match="gpt-4o-transcribe"):
        catalog.check("gpt-4o-transcribe")
    english = Catalog.of(Manifest("whisper", "1", {**content, "languages": []}))
    assert english.languages == {"en"}


@pytest.mark.parametrize(
    ("status", "openai_status", "kind", "code"),
    [
        (401, 401, "invalid_request_error", "invalid_api_key"),
        (413, 413, "invalid_request_error", "file_too_large"),
        (415, 400, "invalid_request_error", None),
        (422, 400, "invalid_request_error", None),
        (429, 429, "requests", "rate_limit_exceeded"),
        (500, 500, "server_error", None),
        (502, 500, "server_error", None),
        (503, 503, "server_error", "service_unavailable"),
        (504, 504, "server_error", "timeout"),
    ],
)
def test_errors_have_openais_shape(
    status: int, openai_status: int, kind: str, code: str | None
) -> None:
    shaped = errors.shape(status, "No.", {})
    error = {"message": "No.", "type": kind, "param": None, "code": code}
    assert shaped == (openai_status, {"error": error})


def test_data_urls_are_read() -> None:
    encoded = base64.b64encode(b"RIFF").decode()
    assert known_speakers.audio_of(f"data:audio/wav;base64,{encoded}") == b"RIFF"
    assert known_speakers.audio_of("data:audio/wav,%52IFF") == b"RIFF"
    for wrong in ("https://example.org/a.wav", "data:audio/wav;base64", "data:;base64,***"):
        with pytest.raises(InvalidParameter):
            known_speakers.audio_of(wrong)


@pytest.mark.parametrize("seconds", [1.9, 10.1])
def test_references_have_two_to_ten_seconds(seconds: float) -> None:
    waveform = Waveform(np.zeros(round(seconds * 16_000), np.float32))
    with pytest.raises(InvalidParameter, match="between 2"):
        known_speakers.reference("anna", waveform)


async def told(request: TranscriptionRequest) -> list[dict[str, Any]]:
    async def analyze(on_segments: OnSegments) -> Analysis:
        on_segments(ANALYSIS.segments[:2])
        on_segments(ANALYSIS.segments[2:])
        return ANALYSIS

    return [event async for event in events.transcribed(analyze, request)]


async def test_deltas_make_up_the_text() -> None:
    *deltas, done = await told(asked(("stream", "true"), ("include[]", "logprobs")))
    assert [d["type"] for d in deltas] == ["transcript.text.delta"] * 2
    assert "".join(d["delta"] for d in deltas) == done["text"] == "four two"
    assert deltas[0]["logprobs"] == done["logprobs"] != []
    assert done["type"] == "transcript.text.done"
    assert done["usage"] == {
        "type": "tokens",
        "input_tokens": 201,
        "input_token_details": {"audio_tokens": 201, "text_tokens": 0},
        "output_tokens": 4,
        "total_tokens": 205,
    }


async def test_diarized_events_name_their_segment() -> None:
    stream = await told(asked(("stream", "true"), ("response_format", "diarized_json")))
    kinds = [event["type"].rpartition(".")[2] for event in stream]
    assert kinds == ["delta", "segment", "segment", "delta", "segment", "done"]
    assert (stream[0]["segment_id"], stream[1]["id"]) == ("seg_0", "seg_0")
    assert stream[0]["delta"] + stream[3]["delta"] == stream[-1]["text"]


async def test_words_are_told_before_the_analysis_ends_and_failures_after_them() -> None:
    async def analyze(on_segments: OnSegments) -> Analysis:
        on_segments(ANALYSIS.segments[:1])
        raise DeadlineExceeded("The analysis took too long")

    stream = events.transcribed(analyze, asked(("stream", "true")))
    assert (await anext(stream))["delta"] == "four"
    with pytest.raises(DeadlineExceeded):
        await anext(stream)


async def test_a_closed_stream_ends_its_analysis() -> None:
    ended = asyncio.Event()

    async def analyze(on_segments: OnSegments) -> Analysis:
        on_segments(ANALYSIS.segments[:1])
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ANALYSIS

    stream = events.transcribed(analyze, asked(("stream", "true")))
    await anext(stream)
    await stream.aclose()
    assert ended.is_set()


async def test_a_failure_after_the_first_event_is_an_event() -> None:
    async def rest() -> AsyncGenerator[events.Event, None]:
        raise DeadlineExceeded("The analysis took too long")
        yield {}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    response = EventStream({"type": "transcript.text.delta", "delta": "four"}, rest(), Metrics())
    await response({"type": "http"}, receive, send)
    lines = b"".join(message.get("body", b"") for message in sent).split(b"\n\n")
    assert orjson.loads(lines[0].removeprefix(b"data: "))["delta"] == "four"
    failure = orjson.loads(lines[1].removeprefix(b"data: "))["error"]
    assert (failure["type"], failure["code"]) == ("server_error", "timeout")
