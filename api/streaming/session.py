"""One live stream, from its first byte to its summary, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from api.branches import together
from api.errors import AudioTooLong, InferenceError, InvalidAudio, VoiceAnalyticsError
from api.metrics import Metrics
from api.schemas import EmotionResponse, WordResponse, to_response
from api.service import AnalysisService
from api.services import speaker_embedding
from api.services.known_speakers import usable
from api.serving import Serving
from api.speaker_profiles import SpeakerProfile
from api.store.profiles import ProfileStore
from api.streaming.decoder import live_decoder
from api.streaming.endpointer import Span
from api.streaming.inbox import Inbox
from api.streaming.listener import Listener
from api.streaming.messages import ConfigMessage, FinalEvent, PartialEvent, SummaryEvent
from api.streaming.outbox import Outbox
from api.streaming.partials import LocalAgreement
from api.streaming.recognizer import Recognizer, patiently
from api.streaming.releases import Heard, LiveReleases
from api.streaming.speakers import OnlineSpeakers
from api.types import SAMPLE_RATE_HZ, AudioInfo, Waveform, Word
from api.vad import VoiceActivityDetector

T = TypeVar("T")

log = structlog.get_logger(__name__)

INBOX_BYTES = 2**19
"""16 s of 16-bit audio at 16 kHz: beyond it the socket isn't read."""

TAKE_BYTES = 2**16
"""Looked at in one go, 2 s: what one thread computes while others wait."""

UTTERANCES_IN_FLIGHT = 4
"""Of one stream that is faster than real time; beyond it its audio isn't looked at."""


@dataclass(frozen=True)
class StreamParts:
    """What every stream of a process shares."""

    recognizer: Recognizer
    serving: Serving
    service: AnalysisService
    profiles: ProfileStore
    detector: VoiceActivityDetector
    executor: Executor
    metrics: Metrics
    max_duration_s: float
    endpoint_silence_s: float
    partial_interval_s: float


class Session:
    """Listens from its creation on; `outbox` tells what it heard. `done` ends with the stream."""

    def __init__(
        self,
        session_id: str,
        config: ConfigMessage,
        parts: StreamParts,
        profiles: Sequence[SpeakerProfile] = (),
    ) -> None:
        """`profiles`: whose voices are looked for."""
        self.id = session_id
        self._live = LiveReleases(parts.serving, parts.recognizer, session_id)
        self.outbox = Outbox()
        self.received_bytes = 0
        self.is_ended = False
        self._is_listening = False
        self._config = config
        self._options = config.options()
        self._parts = parts
        self._inbox = Inbox(INBOX_BYTES)
        self._split_sample = b""
        max_samples = int(parts.max_duration_s * SAMPLE_RATE_HZ)
        decoder = live_decoder(config.encoding, config.sample_rate, max_samples=max_samples)
        self._listener = Listener(
            parts.detector, decoder, max_samples=max_samples, silence_s=parts.endpoint_silence_s
        )
        self._finals: asyncio.Queue[tuple[Span, float, asyncio.Task[Heard]] | None] = asyncio.Queue(
            UTTERANCES_IN_FLIGHT
        )
        self._emitted = self._submitted = 0
        self._voices = self._live.served
        fingerprint = self._voices.fingerprints[speaker_embedding.SPEC.name]
        self._speakers = OnlineSpeakers(
            self._voices.same_speaker_cosine, usable(profiles, fingerprint)
        )
        self._partials = _Partials(self._show_partial, parts.partial_interval_s)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.done = asyncio.create_task(self._run(), name=f"stream-{session_id[:8]}")

    @property
    def received_samples(self) -> int:
        """At the client's rate; of a container, what was decoded, at 16 kHz."""
        if self._config.sample_bytes == 1:
            return self._listener.num_samples
        return self.received_bytes // self._config.sample_bytes

    @property
    def is_waiting(self) -> bool:
        """Whether all audio was looked at, and the client has to send more."""
        return self._is_listening and not self._inbox

    async def receive(self, data: bytes, is_current: Callable[[], bool]) -> bool:
        """Take audio; wait while too much of it hasn't been looked at.

        When the wait is cancelled, nothing was taken, and nothing is counted as received.

        Args:
            is_current: whether its sender's connection is still the one that is listened to.

        Returns:
            Whether it was taken: another connection sends again what wasn't.
        """
        data = self._split_sample + data
        whole = len(data) // self._config.sample_bytes * self._config.sample_bytes
        if not await self._inbox.put(data[:whole], is_current):
            return False
        self._split_sample = data[whole:]
        self.received_bytes += whole
        return True

    def connected(self) -> None:
        """A client sends on from `received_bytes`: half a sample from before doesn't count."""
        self._split_sample = b""

    async def end(self) -> None:
        """No more audio will come; may be said twice."""
        self.is_ended = True
        await self._inbox.close()

    async def _run(self) -> None:
        outcome = "failed"
        try:
            with self._parts.serving.holding(self._live.served):
                await together(self._listen(), self._emit_finals())
                await self._sum_up()
            outcome = "finished"
            self.outbox.close()
        except InvalidAudio as error:
            outcome = "empty" if self._listener.num_samples == 0 else outcome
            self.outbox.close(error)
        except VoiceAnalyticsError as error:
            log.warning("stream_failed", session=self.id[:8], reason=error.message)
            self.outbox.close(error)
        except Exception:
            log.exception("stream_failed_unexpectedly", session=self.id[:8])
            self.outbox.close(InferenceError("Something went wrong here"))
        finally:
            self._parts.metrics.streams_ended.labels(outcome).inc()
            self._partials.stop()
            for task in self._tasks:
                task.cancel()
            await self._inbox.close()
            self._listener.close()

    async def _listen(self) -> None:
        """Bytes → utterances, each handed to the models as soon as it is over."""
        while not self._listener.is_full:
            self._is_listening = True
            data = await self._inbox.take(TAKE_BYTES)
            self._is_listening = False
            if data is None:
                break
            for span in await self._in_thread(self._listener.hear, data):
                await self._submit(span)
            self._think_aloud()
        await self._inbox.close()
        for span in await self._in_thread(self._listener.finish):
            await self._submit(span)
        self._partials.stop()
        await self._finals.put(None)

    async def _submit(self, span: Span) -> None:
        self._partials.stop()
        samples = self._listener.recording[span.start : span.end]
        task = asyncio.create_task(self._live.hear(samples, self._options))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._submitted += 1
        await self._finals.put((span, time.perf_counter(), task))

    async def _emit_finals(self) -> None:
        """The models' answers, in the order of the utterances."""
        while (item := await self._finals.get()) is not None:
            span, ended_at, task = item
            self.outbox.add(self._final(span, await task))
            self._emitted += 1
            self._parts.metrics.utterance_seconds.observe(time.perf_counter() - ended_at)

    def _final(self, span: Span, answer: Heard) -> FinalEvent:
        heard = answer.utterance
        segments = heard.transcript.segments
        text = " ".join(s.text.strip() for s in segments if s.text.strip())
        words = [word for segment in segments for word in segment.words]
        speaker = emotion = None
        # Voices of two releases can't be compared: the summary tells who spoke then.
        voice = speaker_embedding.SPEC.name
        comparable = answer.served.version(voice) == self._voices.version(voice)
        if text and self._options.diarize and comparable:
            speaker = self._speakers.assign(heard.embedding, span.end_s - span.start_s)
        if self._options.emotions:
            named = self._parts.recognizer.emotion(heard, answer.served)
            emotion = EmotionResponse.model_validate(named)
        return FinalEvent(
            text=text,
            words=[_word(word, span, speaker) for word in words],
            start=span.start_s,
            end=span.end_s,
            speaker=speaker,
            emotion=emotion,
            language=heard.transcript.language if text else None,
        )

    def _think_aloud(self) -> None:
        """Transcribe the utterance under way, if there is one and nothing more urgent to do."""
        start = self._listener.current_start
        if start is None or not self._config.partials:
            return
        if self._emitted == self._submitted and len(self._inbox) < TAKE_BYTES:
            self._partials.consider(start, self._listener.num_samples)

    async def _show_partial(self, span: Span, agreement: LocalAgreement) -> None:
        samples = self._listener.recording[span.start : span.end]
        try:
            transcript = await self._parts.recognizer.transcribe(
                samples, self._options, self._live.served
            )
        except VoiceAnalyticsError as error:
            log.warning("partial_failed", session=self.id[:8], reason=type(error).__name__)
            return
        words = [word for segment in transcript.segments for word in segment.words]
        partial = agreement.update(words, span.end_s - span.start_s)
        if partial.text:
            self.outbox.show(
                PartialEvent(
                    text=partial.text, stable=partial.stable, start=span.start_s, end=span.end_s
                )
            )

    async def _sum_up(self) -> None:
        """Analyse the whole stream as a file is.

        Raises:
            InvalidAudio: there was no audio.
            AudioTooLong: after the summary of what could be held, when there was more.
            VoiceAnalyticsError: whatever the analysis raises.
        """
        if self._listener.num_samples == 0:
            raise InvalidAudio("The stream held no audio")
        info = AudioInfo("stream", self._config.encoding, self._config.sample_rate, 1)
        waveform = Waveform(self._listener.recording, info)
        analysis = await patiently(
            lambda: self._parts.service.analyze_waveform(waveform, self._options, self._live.served)
        )
        self.outbox.add(SummaryEvent.model_validate(to_response(analysis).model_dump()))
        if self._listener.is_full:
            limit_s = self._parts.max_duration_s
            raise AudioTooLong(f"The stream is longer than {limit_s:g} s", limit_s=limit_s)

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._parts.executor, work, *args)


class _Partials:
    """When the utterance under way is transcribed: at intervals, one transcription at a time."""

    def __init__(
        self,
        transcribe: Callable[[Span, LocalAgreement], Any],
        interval_s: float,
    ) -> None:
        self._transcribe = transcribe
        self._interval = round(interval_s * SAMPLE_RATE_HZ)
        self._task: asyncio.Task[None] | None = None
        self._agreement = LocalAgreement()
        self._start: int | None = None
        self._heard_until = 0

    def consider(self, start: int, end: int) -> None:
        """Transcribe from `start` to `end` if it is time to."""
        if start != self._start:
            self.stop()
            self._start, self._heard_until = start, start
            self._agreement = LocalAgreement()
        if end - self._heard_until < self._interval or self._is_busy:
            return
        self._heard_until = end
        self._task = asyncio.create_task(self._transcribe(Span(start, end), self._agreement))

    def stop(self) -> None:
        """The utterance is over: what a transcription under way finds comes too late."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def _is_busy(self) -> bool:
        return self._task is not None and not self._task.done()


def _word(word: Word, span: Span, speaker: str | None) -> WordResponse:
    """A word of an utterance in the stream's own time, not beyond the utterance."""
    start, end = (
        min(max(span.start_s + time_s, span.start_s), span.end_s)
        for time_s in (word.start, word.end)
    )
    return WordResponse(
        word=word.word, start=start, end=end, probability=word.probability, speaker=speaker
    )
