"""OpenAI's own SDK against the real service."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai.types.audio import (
    TranscriptionDiarized,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
    TranslationVerbose,
)

from api.types import SAMPLE_RATE_HZ
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import CLIPS, samples, silence, wav
from tests.processes import stub_of

# The SDK marks whisper-1 as deprecated by its maker.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

RECORDING = SAMPLE.read_bytes()
DURATION_S = len(samples(SAMPLE)) / SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def sdk(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def transcribe(sdk: openai.OpenAI, data: bytes = RECORDING, **fields: Any) -> Any:
    fields.setdefault("model", "whisper-1")
    return sdk.audio.transcriptions.create(file=("a.wav", data), **fields)


def data_url(audio: NDArray[np.float32]) -> str:
    return "data:audio/wav;base64," + base64.b64encode(wav(audio)).decode()


@pytest.fixture(scope="module")
def text(sdk: openai.OpenAI) -> str:
    """What Whisper hears in the sample."""
    heard: str = transcribe(sdk).text
    assert heard
    return heard


def test_json(sdk: openai.OpenAI, text: str) -> None:
    answer = transcribe(sdk, model="whisper")
    assert answer.text == text
    assert answer.logprobs is None
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == pytest.approx(DURATION_S)


def test_plain_formats(sdk: openai.OpenAI, text: str) -> None:
    assert transcribe(sdk, response_format="text") == f"{text}\n"
    srt = transcribe(sdk, response_format="srt")
    assert srt.startswith("1\n00:00:0") and " --> " in srt
    vtt = transcribe(sdk, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert "SPEAKER" not in srt + vtt


def test_verbose_json(sdk: openai.OpenAI, text: str) -> None:
    answer = transcribe(sdk, response_format="verbose_json")
    assert isinstance(answer, TranscriptionVerbose)
    assert (answer.text, answer.language, answer.words) == (text, "english", None)
    assert isinstance(answer.duration, float)
    assert answer.segments
    assert [segment.id for segment in answer.segments] == list(range(len(answer.segments)))
    for segment in answer.segments:
        assert segment.avg_logprob < 0 < segment.compression_ratio
        assert 0 < segment.no_speech_prob < 1
        assert segment.tokens and segment.temperature >= 0
        assert 0 <= segment.seek / 100 <= segment.start + 0.01
        assert segment.start < segment.end <= answer.duration


@pytest.mark.parametrize("granularities", [["word"], ["word", "segment"]])
def test_word_times(sdk: openai.OpenAI, text: str, granularities: list[str]) -> None:
    answer = transcribe(sdk, response_format="verbose_json", timestamp_granularities=granularities)
    assert " ".join(word.word for word in answer.words) == text
    assert all(0 <= word.start <= word.end <= DURATION_S for word in answer.words)
    assert (answer.segments is not None) == ("segment" in granularities)


def test_logprobs_spell_the_text(sdk: openai.OpenAI, text: str) -> None:
    answer = transcribe(sdk, include=["logprobs"])
    spelled = b"".join(bytes(map(int, token.bytes)) for token in answer.logprobs)
    assert spelled.decode().split() == text.split()
    assert all(token.logprob <= 0 for token in answer.logprobs)


def test_speakers(sdk: openai.OpenAI) -> None:
    answer = transcribe(sdk, response_format="diarized_json", chunking_strategy="auto")
    assert isinstance(answer, TranscriptionDiarized)
    assert answer.task == "transcribe"
    assert "".join(s.text for s in answer.segments).split() == answer.text.split()
    assert [s.id for s in answer.segments] == [f"seg_{n}" for n in range(len(answer.segments))]
    assert answer.segments[0].speaker == "A"
    assert {s.speaker for s in answer.segments} <= {"A", "B"}


def test_known_speakers_and_strangers(sdk: openai.OpenAI) -> None:
    first_turn = samples(SAMPLE)[: 4 * SAMPLE_RATE_HZ]
    stranger = samples(CLIPS / "emotion_angry_14.wav")
    answer = transcribe(
        sdk,
        response_format="diarized_json",
        known_speaker_names=["anna", "bea"],
        known_speaker_references=[data_url(first_turn), data_url(np.resize(stranger, 40_000))],
    )
    assert answer.segments[0].speaker == "anna"
    assert {s.speaker for s in answer.segments} <= {"anna", "A"}


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("https://example.org/a.wav", "data URL"),
        ("data:audio/wav;base64,AAAA", "can't be used"),
        (data_url(silence(1)), "between 2"),
        (data_url(silence(11)), "can't be used"),
        (data_url(silence(3)), "no speech"),
    ],
)
def test_useless_references_are_refused(sdk: openai.OpenAI, reference: str, complaint: str) -> None:
    with pytest.raises(openai.BadRequestError, match=complaint) as refused:
        transcribe(
            sdk,
            response_format="diarized_json",
            known_speaker_names=["anna"],
            known_speaker_references=[reference],
        )
    assert refused.value.param == "known_speaker_references"


def test_a_stream(sdk: openai.OpenAI, text: str) -> None:
    *deltas, done = transcribe(sdk, stream=True, include=["logprobs"])
    assert all(isinstance(event, TranscriptionTextDeltaEvent) for event in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(event.delta for event in deltas) == done.text == text
    assert done.logprobs and done.usage
    assert done.usage.output_tokens > len(done.logprobs)


def test_a_stream_of_many_chunks(sdk: openai.OpenAI) -> None:
    data = wav(np.tile(samples(SAMPLE), 5))
    *deltas, done = transcribe(sdk, data, stream=True)
    assert "".join(event.delta for event in deltas) == done.text
    assert done.text == transcribe(sdk, data).text


def test_a_stream_with_speakers(sdk: openai.OpenAI) -> None:
    *events, done = transcribe(sdk, stream=True, response_format="diarized_json")
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    deltas = [event for event in events if isinstance(event, TranscriptionTextDeltaEvent)]
    assert "".join(event.delta for event in deltas) == done.text
    assert {event.segment_id for event in deltas} <= {segment.id for segment in segments}
    assert len(segments) + len(deltas) == len(events)


def test_a_stream_of_silence_is_only_done(sdk: openai.OpenAI) -> None:
    (done,) = transcribe(sdk, wav(silence(3)), stream=True)
    assert (done.type, done.text) == ("transcript.text.done", "")


def test_a_stream_that_cannot_start_is_an_error(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        transcribe(sdk, b"no audio at all", stream=True)


def test_detector_settings_have_an_effect(sdk: openai.OpenAI) -> None:
    def starts(**vad: Any) -> list[float]:
        strategy = {"type": "server_vad", **vad}
        answer = transcribe(sdk, response_format="verbose_json", chunking_strategy=strategy)
        return [segment.seek for segment in answer.segments]

    assert starts(prefix_padding_ms=0)[0] > starts(prefix_padding_ms=400)[0]


def test_prompt_and_temperature_reach_whisper(sdk: openai.OpenAI) -> None:
    def segment(**fields: Any) -> Any:
        return transcribe(sdk, response_format="verbose_json", language="en", **fields).segments[0]

    assert segment(temperature=0.3).temperature == pytest.approx(0.3)
    assert segment(prompt="nine nine").avg_logprob != segment().avg_logprob


def test_translation(sdk: openai.OpenAI) -> None:
    answer = sdk.audio.translations.create(
        model="whisper-1", file=("a.wav", RECORDING), response_format="verbose_json"
    )
    assert isinstance(answer, TranslationVerbose)
    assert answer.language == "english"
    assert answer.duration == pytest.approx(DURATION_S)
    plain = sdk.audio.translations.create(model="whisper-1", file=("a.wav", RECORDING))
    assert plain.text == answer.text


def test_models(sdk: openai.OpenAI) -> None:
    listed = list(sdk.models.list())
    assert [model.id for model in listed] == ["whisper-1", "whisper", "bundled"]
    assert sdk.models.retrieve("bundled") == listed[2]
    assert listed[0].object == "model" and listed[0].created > 1_700_000_000
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.models.retrieve("openai/whisper-large-v3")
    assert unknown.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"language": "xx"}, "language", "invalid_value"),
        ({"language": "english"}, "language", "invalid_value"),
        ({"temperature": 2}, "temperature", "invalid_value"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "invalid_value"),
        ({"extra_body": {"best_of": 3}}, "best_of", "unsupported_parameter"),
        ({"extra_body": {"keywords": ["digits"]}}, "keywords", "unsupported_parameter"),
    ],
)
def test_unsupported_fields_are_refused(
    sdk: openai.OpenAI, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        transcribe(sdk, **fields)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id


def test_errors_raise_the_sdks_own_classes(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        transcribe(sdk, model="gpt-4o-transcribe")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="empty"):
        transcribe(sdk, b"")
    with pytest.raises(openai.APIStatusError) as too_long:
        transcribe(sdk, wav(silence(301)))
    assert too_long.value.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/audio/transcriptions", 400),
        ("POST", "/v1/audio/speech", 404),
        ("DELETE", "/v1/models", 405),
    ],
)
def test_every_error_below_v1_has_openais_shape(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path, json={})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


def test_a_crowd_and_a_dead_model_raise_what_the_sdk_retries(tmp_path: Path) -> None:
    settings = {"MAX_CONCURRENT_REQUESTS": "1", "WATCHDOG_INTERVAL": "60"}
    with (
        run_service(tmp_path, **settings) as alone,
        openai.OpenAI(base_url=f"{alone.url}/v1", api_key="any", max_retries=0) as sdk,
        ThreadPoolExecutor(8) as crowd,
    ):
        clips = [wav(np.tile(samples(SAMPLE), 5)[n:]) for n in range(8)]
        answers = list(crowd.map(lambda clip: _outcome(sdk, clip), clips))
        refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
        assert refused and "retry-after" in refused[0].response.headers
        assert refused[0].code == "rate_limit_exceeded"
        assert any(isinstance(answer, str) for answer in answers)
        stub_of(alone, "whisper").kill()
        away = _outcome(sdk, wav(samples(SAMPLE)[100:]))
        assert isinstance(away, openai.InternalServerError)
        assert away.status_code == 503 and away.type == "server_error"


def _outcome(sdk: openai.OpenAI, clip: bytes) -> str | openai.APIStatusError:
    try:
        return str(transcribe(sdk, clip).text)
    except openai.APIStatusError as error:
        return error
