"""The SDK over the real service: every call, both ways, and every kind of error."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import samples, wav
from tests.live_audio import pcm, recorded
from voice_analytics_client import (
    NEVER,
    AsyncVoiceAnalytics,
    DeadlineExceeded,
    Final,
    InvalidAudio,
    InvalidOption,
    NotFound,
    Partial,
    Ready,
    ServiceUnreachable,
    StreamConfig,
    Summary,
    TooLarge,
    UnexpectedAnswer,
    VoiceAnalytics,
)

WORDS = (
    "four one five nine two two seven zero six nine zero three six eight "
    "eight one four three five five five two seven"
)
SPEECH_PCM = pcm(samples(SAMPLE))


@pytest.fixture
def voices(service: Service) -> Iterator[VoiceAnalytics]:
    with VoiceAnalytics(service.url) as client:
        yield client


@pytest.fixture
async def async_voices(service: Service) -> AsyncIterator[AsyncVoiceAnalytics]:
    async with AsyncVoiceAnalytics(service.url) as client:
        yield client


def test_a_recording_as_a_path_as_bytes_and_as_an_open_file(voices: VoiceAnalytics) -> None:
    by_path = voices.analyze(SAMPLE, language="en")
    assert by_path.transcription == WORDS
    assert by_path.duration == pytest.approx(18.58, abs=0.01)
    assert [speaker.id for speaker in by_path.speakers] == ["SPEAKER_00", "SPEAKER_01"]
    assert voices.analyze(SAMPLE.read_bytes(), language="en").segments == by_path.segments
    with open(SAMPLE, "rb") as file:
        assert voices.analyze(file, language="en").segments == by_path.segments


def test_options_arrive(voices: VoiceAnalytics) -> None:
    found = voices.analyze(
        SAMPLE, language="en", diarize=False, emotions=False, word_timestamps=False
    )
    assert found.speakers == ()
    assert found.emotions == ()
    assert {len(segment.words) for segment in found.segments} == {0}
    assert len(voices.analyze(SAMPLE, num_speakers=1).speakers) == 1


def test_other_formats_come_as_text(voices: VoiceAnalytics) -> None:
    assert "SPEAKER_01: two" in voices.analyze_as(SAMPLE, "srt")
    assert voices.analyze_as(SAMPLE, "vtt").startswith("WEBVTT")


def test_analyses_are_listed_over_pages_fetched_exported_and_deleted(
    voices: VoiceAnalytics,
) -> None:
    made = [voices.analyze(SAMPLE, language="en") for _ in range(3)]
    since = made[0].created_at
    pages = [voices.analyses.page(limit=2, created_after=since)]
    pages.append(voices.analyses.page(limit=2, created_after=since, cursor=pages[0].next_cursor))
    assert [len(page.items) for page in pages] == [2, 1]
    listed = [summary.id for summary in voices.analyses.list(created_after=since)]
    assert listed == [analysis.id for analysis in reversed(made)]
    assert [summary.id for page in pages for summary in page.items] == listed
    assert voices.analyses.get(made[0].id) == made[0]
    assert voices.analyses.export(made[0].id, "rttm").startswith(f"SPEAKER {made[0].id} 1 ")
    renamed = voices.analyses.rename_speakers(made[1].id, {"SPEAKER_00": "Anna"})
    assert renamed == voices.analyses.get(made[1].id) != made[1]
    assert renamed.speakers[0].id == "Anna"
    assert json.loads(voices.analyses.export(made[0].id, "json"))["id"] == made[0].id
    voices.analyses.delete(made[0].id)
    with pytest.raises(NotFound) as caught:
        voices.analyses.get(made[0].id)
    assert caught.value.status == 404
    assert caught.value.request_id


def test_lists_go_on_beyond_one_page(
    voices: VoiceAnalytics, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [voices.analyze(SAMPLE, language="en").id for _ in range(3)]
    monkeypatch.setattr("voice_analytics_client.routes.PAGE", 2)
    newest = voices.analyses.list(text="four one five")
    assert [next(newest).id for _ in made] == made[::-1]


def test_an_id_cannot_lead_elsewhere(voices: VoiceAnalytics) -> None:
    with pytest.raises(NotFound):
        voices.analyses.get("../../health")
    with pytest.raises(ValueError, match="no id"):
        voices.analyses.delete("..")


def test_errors_carry_what_the_service_said(voices: VoiceAnalytics) -> None:
    with pytest.raises(InvalidAudio) as empty:
        voices.analyze(b"")
    assert empty.value.status == 400
    with pytest.raises(InvalidOption) as contradiction:
        voices.analyze(SAMPLE, min_speakers=3, max_speakers=2)
    assert contradiction.value.details["min_speakers"] == 3
    assert str(contradiction.value.request_id) in str(contradiction.value)
    hours = io.BytesIO(wav(samples(SAMPLE).repeat(20)))
    with pytest.raises(TooLarge):
        voices.analyze(hours)


def test_health_and_figures(voices: VoiceAnalytics) -> None:
    health = voices.health()
    assert health.status == "ok"
    assert set(health.models) == {"whisper", "emotion", "speaker_embedding"}
    voices.live()
    voices.ready()
    assert "voice_analytics_requests_total" in voices.metrics()


def test_a_request_id_of_an_error_is_in_the_services_log(
    voices: VoiceAnalytics, service: Service
) -> None:
    with pytest.raises(NotFound) as caught:
        voices.analyses.get("nowhere")
    deadline = time.monotonic() + 10  # the line comes after the answer
    while str(caught.value.request_id) not in service.log:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_timeout_is_the_callers(service: Service) -> None:
    """The service itself says that the time is up, and has stopped its work."""
    with (
        VoiceAnalytics(service.url, timeout_s=0.05) as client,
        pytest.raises(DeadlineExceeded) as caught,
    ):
        client.analyze(wav(samples(SAMPLE) * 0.77))
    assert caught.value.details == {"timeout_s": 0.05}


def test_the_address_and_the_key_come_from_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOICE_ANALYTICS_URL", service.url + "/")
    monkeypatch.setenv("VOICE_ANALYTICS_API_KEY", "secret")
    with VoiceAnalytics() as client:
        client.ready()
        assert client.url == service.url
        assert "secret" not in repr(vars(client))
    monkeypatch.setenv("VOICE_ANALYTICS_URL", "localhost:6500")
    with pytest.raises(ValueError, match="must be like"):
        VoiceAnalytics()


def test_another_service_at_that_address_is_told_as_such(service: Service) -> None:
    triton = f"http://127.0.0.1:{service.triton_port('http')}"
    with VoiceAnalytics(triton) as client, pytest.raises(UnexpectedAnswer, match=triton):
        client.health()


async def test_many_at_once_asynchronously(async_voices: AsyncVoiceAnalytics) -> None:
    found = await asyncio.gather(*(async_voices.analyze(SAMPLE) for _ in range(4)))
    assert {analysis.transcription for analysis in found} == {WORDS}
    ids = {analysis.id for analysis in found}
    listed = [summary.id async for summary in async_voices.analyses.list(text="four one")]
    assert ids <= set(listed)
    one = await async_voices.analyses.get(found[0].id)
    assert one.raw == found[0].raw
    assert (await async_voices.analyses.export(one.id, "tsv")).startswith("start\tend")
    await async_voices.analyses.delete(one.id)
    with pytest.raises(NotFound):
        await async_voices.analyses.get(one.id)
    assert "nine" in await async_voices.analyze_as(SAMPLE, "text")
    assert (await async_voices.health()).status == "ok"
    await async_voices.live()
    await async_voices.ready()
    assert await async_voices.metrics()


async def test_a_live_stream_asynchronously(async_voices: AsyncVoiceAnalytics) -> None:
    async with async_voices.stream(StreamConfig(language="en")) as stream:
        for at in range(0, len(SPEECH_PCM), 3200):
            await stream.send(SPEECH_PCM[at : at + 3200])
        await stream.end()
        events = [event async for event in stream]
    summary = events[-1]
    assert isinstance(events[0], Ready) and isinstance(summary, Summary)
    finals = [event for event in events if isinstance(event, Final)]
    assert " ".join(final.text for final in finals) == WORDS
    assert [*(final.seq for final in finals), summary.seq] == list(range(1, len(finals) + 2))
    assert summary.analysis.transcription == WORDS
    assert (await async_voices.analyses.get(summary.analysis.id)).transcription == WORDS


def test_a_live_stream_from_code_that_blocks(voices: VoiceAnalytics) -> None:
    with voices.stream(StreamConfig("ogg")) as stream:
        for chunk in recorded(samples(SAMPLE), "ogg"):
            stream.send(chunk)
        assert isinstance(stream.take()[0], Ready)
        stream.end()
        kinds = [type(event) for event in stream if not isinstance(event, Partial)]
    assert kinds[-1] is Summary and set(kinds[:-1]) == {Final}
    with voices.stream() as stream:
        stream.send(SPEECH_PCM)
        assert stream.finish().transcription == WORDS


def test_a_stream_that_is_refused_says_why(voices: VoiceAnalytics, service: Service) -> None:
    with pytest.raises(InvalidOption) as caught, voices.stream(StreamConfig(sample_rate=1)):
        pass
    assert caught.value.close_code == 1008
    assert "sample_rate" in caught.value.details
    with voices.stream() as stream:
        stream.end()
        with pytest.raises(InvalidAudio):
            list(stream)
    triton = f"http://127.0.0.1:{service.triton_port('http')}"
    with VoiceAnalytics(triton) as elsewhere, pytest.raises(UnexpectedAnswer), elsewhere.stream():
        pass


def test_nobody_there_is_told_at_once_without_retries() -> None:
    with VoiceAnalytics("http://127.0.0.1:9", retries=NEVER) as client:
        with pytest.raises(ServiceUnreachable, match="can't be reached"):
            client.health()
        with pytest.raises(ServiceUnreachable), client.stream():
            pass


def test_one_client_serves_a_plain_httpx_user_too(service: Service) -> None:
    """What the SDK sends is what any HTTP client may send: same analysis, same stages."""
    plain = httpx.post(
        f"{service.url}/audio/analyze", files={"file": SAMPLE.read_bytes()}, timeout=60
    )
    with VoiceAnalytics(service.url) as client:
        assert client.analyses.get(plain.json()["id"]).raw == plain.json()
