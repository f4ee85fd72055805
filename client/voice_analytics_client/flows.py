"""What is done for a call, without doing it: send this, wait so long, then this is the answer.

A flow is a generator. It yields `Send` or `Wait` and gets back what came of it; the two transports,
one blocking and one asynchronous, carry it out. So retries, waiting for jobs and reading of answers
are written once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from voice_analytics_client import routes
from voice_analytics_client.answers import Analysis, Job
from voice_analytics_client.errors import (
    JobEnded,
    NotFound,
    RequestTimedOut,
    ServiceUnreachable,
    VoiceAnalyticsError,
)
from voice_analytics_client.requests import Request, error_of
from voice_analytics_client.retries import Retries

T = TypeVar("T")

FIRST_LOOK_S, LONGEST_PAUSE_S = 0.2, 2.0
"""Between two looks at a job: soon for a short one, seldom for one of hours."""


@dataclass(frozen=True)
class Send:
    """Send a request; a response or the transport's error comes back."""

    request: Request[Any]


@dataclass(frozen=True)
class Wait:
    """Let time pass; None comes back."""

    seconds: float


Step = Send | Wait
Outcome = httpx.Response | httpx.TransportError | None
Flow = Generator[Step, Outcome, T]


def call(
    request: Request[T], retries: Retries, clock: Callable[[], float] = time.monotonic
) -> Flow[T]:
    """Send a request, again if need be, and read the answer.

    Raises:
        VoiceAnalyticsError: the error of the last try.
    """
    started = clock()
    tries, was_lost = 0, False
    while True:
        outcome = yield Send(request)
        tries += 1
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return request.read(outcome)
        error = complaint(outcome)
        if was_lost and request.method == "DELETE" and isinstance(error, NotFound):
            # The lost try was carried out: what was to be gone is gone.
            return request.read(httpx.Response(204))
        wait_s = retries.wait_s(
            error,
            tries=tries,
            elapsed_s=clock() - started,
            is_repeatable=request.is_repeatable,
        )
        if wait_s is None:
            raise error
        was_lost |= isinstance(error, ServiceUnreachable) and error.was_sent
        yield Wait(wait_s)


def wait_for_job(
    job_id: str,
    retries: Retries,
    timeout_s: float | None,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[Analysis]:
    """Look at a job until it has ended, then fetch its analysis.

    Raises:
        JobEnded: it failed or was cancelled.
        RequestTimedOut: it goes on, but the time is up.
        VoiceAnalyticsError: see `call`.
    """
    started, pause_s = clock(), FIRST_LOOK_S
    while True:
        job = yield from call(routes.get_job(job_id), retries, clock)
        if job.analysis_id is not None:
            return (yield from call(routes.get_analysis(job.analysis_id), retries, clock))
        if job.has_ended:
            raise ended(job)
        if timeout_s is not None and clock() - started + pause_s > timeout_s:
            raise RequestTimedOut("The job hasn't ended in time; it goes on", was_sent=True)
        yield Wait(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 1.5)


def ended(job: Job) -> JobEnded:
    """A job that has no analysis, as an error."""
    outcome = "was cancelled" if job.status == "cancelled" else "failed"
    reason = f": {job.error.message}" if job.error else ""
    error = job.raw.get("error")
    return JobEnded(f"Job {job.id} {outcome}{reason}", job.id, error)


def complaint(outcome: Outcome) -> VoiceAnalyticsError:
    """What is wrong with an outcome that is no success."""
    if isinstance(outcome, httpx.Response):
        return error_of(outcome)
    return unreachable(outcome or httpx.TransportError("nothing came back"))


def unreachable(error: httpx.TransportError) -> ServiceUnreachable:
    """The transport's error in our words."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return RequestTimedOut("The service did not answer in time", was_sent=True)
    not_sent = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
    if isinstance(error, not_sent):
        return ServiceUnreachable(f"The service can't be reached: {reason}", was_sent=False)
    return ServiceUnreachable(
        f"The connection broke before the answer was there: {reason}", was_sent=True
    )
