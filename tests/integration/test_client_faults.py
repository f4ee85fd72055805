"""The SDK when connections break and the service goes away, for real."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import samples
from tests.live_audio import pcm
from tests.tcp_proxy import TcpProxy, proxy_to
from voice_analytics_client import (
    NEVER,
    AsyncVoiceAnalytics,
    AuthenticationError,
    Conflict,
    Final,
    Overloaded,
    RequestTimedOut,
    Resumed,
    Retries,
    ServiceUnreachable,
    StreamConfig,
    StreamLost,
    Summary,
    VoiceAnalytics,
)
from voice_analytics_client.streaming import aio

SPEECH_PCM = pcm(samples(SAMPLE))
FRAME = 6400
KEY = "a-key-for-tests-0123456789abcdef"
QUICK = Retries(attempts=5, within_s=60, first_s=0.1)


@pytest.fixture
def proxy(service: Service) -> Iterator[TcpProxy]:
    with proxy_to(service.url) as proxy:
        yield proxy


@pytest.mark.parametrize("cut_after", [0, 100])
def test_a_lost_answer_is_asked_for_again(proxy: TcpProxy, cut_after: int) -> None:
    with VoiceAnalytics(proxy.url, retries=QUICK) as client:
        expected = client.analyze(SAMPLE)
        proxy.cut_answer_after(cut_after)
        assert client.analyze(SAMPLE).segments == expected.segments
        proxy.cut_answer_after(cut_after)
        client.analyses.delete(expected.id)
    with VoiceAnalytics(proxy.url, retries=NEVER) as client:
        proxy.cut_answer_after(cut_after)
        with pytest.raises(ServiceUnreachable) as caught:
            client.analyze(SAMPLE)
        assert caught.value.was_sent


def test_a_service_that_hangs_is_not_waited_for(proxy: TcpProxy) -> None:
    with VoiceAnalytics(proxy.url, timeout_s=0.1) as client:
        client.live()
        proxy.freeze()
        with pytest.raises(RequestTimedOut):
            client.live()


async def test_every_caller_of_a_crowd_gets_its_answer(proxy: TcpProxy) -> None:
    """Connections break under a crowd; nobody notices."""
    async with AsyncVoiceAnalytics(proxy.url, retries=QUICK) as client:
        proxy.freeze()  # so that nobody has an answer yet, however quick the service
        crowd = [asyncio.create_task(client.analyze(SAMPLE)) for _ in range(12)]
        await asyncio.sleep(0.3)
        proxy.cut()
        proxy.thaw()
        found = await asyncio.gather(*crowd)
    assert len({analysis.transcription for analysis in found}) == 1
    assert proxy.connections > 12


def words(events: list[object]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Final))


async def expected_words(service: Service) -> str:
    async with AsyncVoiceAnalytics(service.url) as client, client.stream() as stream:
        await stream.send(SPEECH_PCM)
        await stream.end()
        return words([event async for event in stream])


async def test_no_word_is_lost_with_the_connection(service: Service, proxy: TcpProxy) -> None:
    """Cut at many places, also behind the end: the same finals, each once, and the summary."""
    frames = [SPEECH_PCM[at : at + FRAME] for at in range(0, len(SPEECH_PCM), FRAME)]
    async with AsyncVoiceAnalytics(proxy.url) as client, client.stream() as stream:
        for number, frame in enumerate(frames):
            await stream.send(frame)
            await asyncio.sleep(0.02)
            if number % 20 == 10:
                proxy.cut()
        await stream.end()
        await asyncio.sleep(0.05)
        proxy.cut()
        events = [event async for event in stream]
    assert isinstance(events[-1], Summary)
    assert sum(isinstance(event, Resumed) for event in events) >= 4
    assert words([*events]) == await expected_words(service)
    heard = (len(SPEECH_PCM) // 2) / 16_000
    assert events[-1].analysis.duration == pytest.approx(heard)


async def test_a_connection_that_died_silently_is_noticed(
    proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No packet says so: only the service's silence does."""
    monkeypatch.setattr(aio, "SILENCE_S", 2.0)
    async with AsyncVoiceAnalytics(proxy.url) as client, client.stream() as stream:
        await stream.send(SPEECH_PCM[: 5 * FRAME])
        await asyncio.sleep(0.3)
        proxy.freeze()
        await stream.send(SPEECH_PCM[5 * FRAME :])
        await asyncio.sleep(0.5)
        proxy.thaw()
        summary = await stream.finish()
    assert summary.duration == pytest.approx((len(SPEECH_PCM) // 2) / 16_000)


async def test_a_caller_who_sends_everything_before_reading_gets_everything(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending waits for acknowledgements, never for a reader."""
    monkeypatch.setattr(aio, "UNACKNOWLEDGED_BYTES", 100_000)
    async with AsyncVoiceAnalytics(service.url) as client, client.stream() as stream:
        for at in range(0, len(SPEECH_PCM), FRAME):
            await stream.send(SPEECH_PCM[at : at + FRAME])
        await stream.end()
        assert words([event async for event in stream]) == await expected_words(service)


async def test_hanging_up_frees_the_place_and_keeps_what_was_heard(service: Service) -> None:
    """A stream that is left without an end must not hold one of the service's few places."""
    async with AsyncVoiceAnalytics(service.url) as client:
        async with client.stream() as stream:
            await stream.send(SPEECH_PCM)
            async for event in stream:
                if isinstance(event, Final):
                    break
            newest = (await client.analyses.page(limit=1)).items
        for _ in range(100):
            await asyncio.sleep(0.1)
            if (await client.analyses.page(limit=1)).items != newest:
                return
    pytest.fail("the service still waits for a client that hung up")


async def test_a_session_that_somebody_else_took_is_given_up(service: Service) -> None:
    async with AsyncVoiceAnalytics(service.url) as client, client.stream() as first:
        thief = client.stream()
        thief._state.session_id = first.session_id
        async with thief:
            with pytest.raises(Conflict):
                async for _ in first:
                    pass


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A small service of its own, to be hurt: room for one stream and one analysis."""
    with run_service(
        tmp_path_factory.mktemp("client_victim"),
        STREAM_MAX_SESSIONS="1",
        MAX_CONCURRENT_REQUESTS="1",
        API_KEYS=f"tester:{KEY}",
    ) as running:
        triton = psutil.Process(running.triton_pid())
        yield running
        with contextlib.suppress(psutil.NoSuchProcess):  # what the kill below leaves behind
            triton.terminate()
            triton.wait(60)


async def test_a_crowd_is_served_one_after_the_other(victim: Service) -> None:
    """429 with Retry-After: everybody comes back until it is their turn."""
    patient = Retries(attempts=None, within_s=60, first_s=0.1)
    async with AsyncVoiceAnalytics(victim.url, api_key=KEY, retries=patient) as client:
        found = await asyncio.gather(*(client.analyze(SAMPLE) for _ in range(4)))
        assert len({analysis.id for analysis in found}) == 4
    assert '"status": 429' in victim.log
    async with (
        AsyncVoiceAnalytics(victim.url, api_key=KEY, retries=NEVER) as client,
        client.stream(),
    ):
        with pytest.raises(Overloaded):
            async with client.stream():
                pass


async def test_without_the_key_nobody_gets_in(victim: Service) -> None:
    for key in (None, "wrong"):
        async with AsyncVoiceAnalytics(victim.url, api_key=key) as client:
            await client.ready()
            with pytest.raises(AuthenticationError) as caught:
                await client.analyze(SAMPLE)
            assert (caught.value.status, caught.value.request_id is not None) == (401, True)
            with pytest.raises(AuthenticationError):
                async with client.stream():
                    pass


async def test_a_killed_service_ends_the_stream_and_fails_the_call(victim: Service) -> None:
    """kill -9: a session's worker is gone, and the caller is told so within the limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aio, "RESUMING", Retries(attempts=None, within_s=1.5, first_s=0.2))
        async with AsyncVoiceAnalytics(victim.url, api_key=KEY, retries=QUICK) as client:
            async with client.stream(StreamConfig()) as stream:
                await stream.send(SPEECH_PCM)
                victim.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(victim.process.wait)
                with pytest.raises((ServiceUnreachable, StreamLost)):
                    await stream.finish()
            with pytest.raises(ServiceUnreachable):
                await client.analyze(SAMPLE)
