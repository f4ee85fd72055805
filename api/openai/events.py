"""A transcription as server-sent events: words as soon as they are there, the whole at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

from api.openai import shaping
from api.openai.schemas import TranscriptionRequest
from api.pipeline import OnSegments
from api.types import Analysis, Segment

Event = dict[str, Any]
Analyze = Callable[[OnSegments], Coroutine[Any, Any, Analysis]]


async def transcribed(
    analyze: Analyze, request: TranscriptionRequest
) -> AsyncGenerator[Event, None]:
    """The events of one transcription.

    Segments of a chunk are told as soon as the chunk and all before it are transcribed; with
    speakers, once these are known, which takes the whole recording. Closing the iterator cancels
    the analysis.

    Raises:
        VoiceAnalyticsError: whatever `analyze` raises.
    """
    heard: asyncio.Queue[Sequence[Segment] | None] = asyncio.Queue()
    task = asyncio.ensure_future(analyze(heard.put_nowait))
    task.add_done_callback(lambda _: heard.put_nowait(None))
    diarize = request.response_format == "diarized_json"
    output_tokens = 0
    is_first = True
    try:
        while (segments := await heard.get()) is not None:
            for segment in segments:
                output_tokens += len(segment.tokens)
                if not diarize and segment.text.strip():
                    yield _delta(segment, is_first=is_first)
                    is_first = False
        analysis = await task
        if diarize:
            for event in _diarized(analysis, request):
                yield event
        yield _done(analysis, request, output_tokens)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _delta(segment: Segment, *, is_first: bool) -> Event:
    """The next part of the text; all parts joined are `Analysis.transcription`."""
    text = segment.text.strip()
    event: Event = {"type": "transcript.text.delta", "delta": text if is_first else f" {text}"}
    if segment.logprobs:
        event["logprobs"] = shaping.logprobs(segment.logprobs)
    return event


def _diarized(analysis: Analysis, request: TranscriptionRequest) -> list[Event]:
    events: list[Event] = []
    is_first = True
    for shaped, segment in zip(
        shaping.diarized(analysis, request.known_speaker_names), analysis.segments, strict=True
    ):
        if segment.text.strip():
            events.append({**_delta(segment, is_first=is_first), "segment_id": shaped["id"]})
            is_first = False
        events.append(shaped)
    return events


def _done(analysis: Analysis, request: TranscriptionRequest, output_tokens: int) -> Event:
    event: Event = {"type": "transcript.text.done", "text": analysis.transcription}
    if request.include:
        event["logprobs"] = shaping.logprobs(t for s in analysis.segments for t in s.logprobs)
    event["usage"] = shaping.tokens_used(analysis.duration, output_tokens)
    return event
