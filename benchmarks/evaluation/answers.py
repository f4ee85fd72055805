"""Asks the service about every recording, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from benchmarks.errors import ServiceAway
from benchmarks.evaluation.manifest import Labelled

_ATTEMPTS: Final = 8
_MAX_WAIT_S: Final = 30.0
_BUSY: Final = (429, 503)


@dataclass(frozen=True)
class Answer:
    """What the service said about one recording: an analysis, or why there is none."""

    recording: Labelled
    analysis: Mapping[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class Service:
    """Where to ask, and how.

    Attributes:
        tell_speaker_count: send the reference's number of speakers where the manifest has none.
    """

    url: str
    api_key: str | None
    timeout_s: float
    concurrency: int
    language: str | None
    tell_speaker_count: bool


async def ask_all(service: Service, recordings: Sequence[Labelled]) -> AsyncIterator[Answer]:
    """Answers in the order in which they come.

    Raises:
        ServiceAway: nobody answers at the URL.
    """
    headers = {"X-API-Key": service.api_key} if service.api_key else {}
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, timeout=service.timeout_s
    ) as client:
        await _check(client)
        places = asyncio.Semaphore(service.concurrency)

        async def ask_in_turn(recording: Labelled) -> Answer:
            async with places:
                return await _ask(client, service, recording)

        tasks = [asyncio.create_task(ask_in_turn(recording)) for recording in recordings]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for pending in tasks:
                pending.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _check(client: httpx.AsyncClient) -> None:
    try:
        response = await client.get("/health/live", timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceAway(
            f"nobody answers at {client.base_url}: {error!r}. Start the service "
            "(./dev.sh serve) or say where it is with --url"
        ) from error
    if not response.is_success:
        raise ServiceAway(
            f"{client.base_url} answers {response.status_code} to /health/live; is it the service?"
        )


async def _ask(client: httpx.AsyncClient, service: Service, recording: Labelled) -> Answer:
    """One recording; a busy service is asked again after the time that it names."""
    form = _form(service, recording)
    # read on the loop: nothing else waits on it but other uploads
    content = recording.audio.read_bytes()
    for attempt in range(_ATTEMPTS):
        try:
            response = await client.post(
                "/audio/analyze", data=form, files={"file": (recording.audio.name, content)}
            )
        except httpx.HTTPError as error:
            return Answer(recording, None, f"{type(error).__name__}: {error}")
        if response.status_code not in _BUSY or attempt == _ATTEMPTS - 1:
            break
        wait = response.headers.get("retry-after", "1")
        await asyncio.sleep(min(float(wait) if wait.isdecimal() else 1.0, _MAX_WAIT_S))
    if response.is_success:
        return Answer(recording, response.json(), None)
    return Answer(recording, None, _said(response))


def _form(service: Service, recording: Labelled) -> dict[str, str]:
    count = recording.num_speakers
    if count is None and service.tell_speaker_count and recording.turns is not None:
        count = len({turn.speaker for turn in recording.turns})
    known = {"language": recording.language or service.language, "num_speakers": count}
    return {name: str(value) for name, value in known.items() if value is not None}


def _said(response: httpx.Response) -> str:
    try:
        body = response.json()
        return f"{response.status_code} {body['error']}: {body['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"
