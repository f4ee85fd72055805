"""The two ways of carrying out a flow: blocking, and on an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import httpx

from voice_analytics_client.answers import Analysis, Job
from voice_analytics_client.flows import Flow, Outcome, Step, Wait, call, wait_for_job
from voice_analytics_client.following import SILENCE_S, Following
from voice_analytics_client.requests import Request
from voice_analytics_client.retries import Retries
from voice_analytics_client.settings import CONNECT_TIMEOUT_S, GRACE_S, Connection

T = TypeVar("T")

SILENCE = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S, pool=None)


class BlockingTransport:
    """Carries out flows in the calling thread."""

    def __init__(self, connection: Connection, retries: Retries) -> None:
        self._connection = connection
        self._retries = retries
        self.http = httpx.Client(
            base_url=connection.url,
            headers=connection.headers,
            timeout=timeout(connection.timeout_s),
        )

    def close(self) -> None:
        self.http.close()

    def call(self, request: Request[T]) -> T:
        return self.run(call(request, self._retries))

    def wait_for_job(self, job_id: str, timeout_s: float | None) -> Analysis:
        return self.run(wait_for_job(job_id, self._retries, timeout_s))

    def follow(self, job_id: str) -> Iterator[Job]:
        """A job's events until it has ended."""
        following = Following(job_id, self._retries)
        while not following.is_over:
            request = following.request()
            asked = self.http.stream(
                request.method, request.path, headers=request.headers, timeout=SILENCE
            )
            outcome: httpx.Response | httpx.TransportError
            try:
                with asked as outcome:
                    if outcome.status_code != httpx.codes.OK:
                        outcome.read()
                    for line in outcome.iter_lines():
                        job = following.heard(line)
                        if job is not None:
                            yield job
            except httpx.TransportError as error:
                outcome = error
            if not following.is_over:
                time.sleep(following.broke_off(outcome))

    def run(self, flow: Flow[T]) -> T:
        step = next(flow)
        while True:
            outcome = self._carry_out(step)
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result

    def _carry_out(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        timeout_s = _timeout_s(step.request, self._connection)
        with step.request.arguments(timeout_s) as arguments:
            try:
                return self.http.request(**arguments, timeout=timeout(timeout_s))
            except httpx.TransportError as error:
                return error


class AsyncTransport:
    """Carries out flows on the running event loop."""

    def __init__(self, connection: Connection, retries: Retries) -> None:
        self._connection = connection
        self._retries = retries
        self.http = httpx.AsyncClient(
            base_url=connection.url,
            headers=connection.headers,
            timeout=timeout(connection.timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )

    async def close(self) -> None:
        await self.http.aclose()

    async def call(self, request: Request[T]) -> T:
        return await self.run(call(request, self._retries))

    async def wait_for_job(self, job_id: str, timeout_s: float | None) -> Analysis:
        return await self.run(wait_for_job(job_id, self._retries, timeout_s))

    async def follow(self, job_id: str) -> AsyncIterator[Job]:
        """A job's events until it has ended."""
        following = Following(job_id, self._retries)
        while not following.is_over:
            request = following.request()
            asked = self.http.stream(
                request.method, request.path, headers=request.headers, timeout=SILENCE
            )
            outcome: httpx.Response | httpx.TransportError
            try:
                async with asked as outcome:
                    if outcome.status_code != httpx.codes.OK:
                        await outcome.aread()
                    async for line in outcome.aiter_lines():
                        job = following.heard(line)
                        if job is not None:
                            yield job
            except httpx.TransportError as error:
                outcome = error
            if not following.is_over:
                await asyncio.sleep(following.broke_off(outcome))

    async def run(self, flow: Flow[T]) -> T:
        step = next(flow)
        while True:
            outcome = await self._carry_out(step)
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result

    async def _carry_out(self, step: Step) -> Outcome:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        timeout_s = _timeout_s(step.request, self._connection)
        with step.request.arguments(timeout_s) as arguments:
            try:
                return await self.http.request(**arguments, timeout=timeout(timeout_s))
            except httpx.TransportError as error:
                return error


def timeout(seconds: float) -> httpx.Timeout:
    """For one request; the service, told the same, is given a moment to say so itself."""
    return httpx.Timeout(seconds + GRACE_S, connect=min(seconds, CONNECT_TIMEOUT_S), pool=None)


def _timeout_s(request: Request[T], connection: Connection) -> float:
    return connection.timeout_s if request.timeout_s is None else request.timeout_s
