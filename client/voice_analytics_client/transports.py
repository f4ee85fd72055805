"""The two ways of carrying out a flow: blocking, and on an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

import httpx

from voice_analytics_client.flows import Flow, Outcome, Step, Wait, call
from voice_analytics_client.requests import Request
from voice_analytics_client.retries import Retries
from voice_analytics_client.settings import CONNECT_TIMEOUT_S, GRACE_S, Connection

T = TypeVar("T")


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
