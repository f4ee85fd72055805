"""A job's events over server-sent events, across lost connections. Free of I/O.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import httpx

from voice_analytics_client import routes
from voice_analytics_client.answers import Job
from voice_analytics_client.errors import (
    ServiceUnreachable,
    UnexpectedAnswer,
    VoiceAnalyticsError,
)
from voice_analytics_client.flows import complaint
from voice_analytics_client.reading import read
from voice_analytics_client.requests import Request
from voice_analytics_client.retries import Retries

SILENCE_S = 45.0
"""The service says at least a comment every 15 s; after this long the connection is dead."""


class Following:
    """Reads one job's events; each says all there is to know about it."""

    def __init__(
        self, job_id: str, retries: Retries, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._job_id = job_id
        self._retries = retries
        self._clock = clock
        self._last_id: str | None = None
        self._data: list[str] = []
        self._tries = 0
        self._lost_at = clock()
        self.is_over = False

    def request(self) -> Request[None]:
        """To be sent while it isn't over: it goes on behind the last event."""
        self._data = []
        return routes.job_events(self._job_id, self._last_id)

    def heard(self, line: str) -> Job | None:
        """Take in a line, without its end; the event that it completes.

        Raises:
            UnexpectedAnswer: it isn't a job's event.
        """
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            self._last_id = value
        elif field == "data":
            self._data.append(value)
        if line or not self._data:
            return None
        text, self._data = "\n".join(self._data), []
        self._tries, self._lost_at = 0, self._clock()
        job = read(Job, _json(text))
        self.is_over = job.has_ended
        return job

    def broke_off(self, outcome: httpx.Response | httpx.TransportError) -> float:
        """The answer ended before the job, or was none: seconds until the next try.

        Raises:
            VoiceAnalyticsError: there is no sense in another.
        """
        if isinstance(outcome, httpx.Response) and outcome.status_code == 204:
            self.is_over = True  # the last event was heard already
            return 0.0
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            error: VoiceAnalyticsError = ServiceUnreachable("The events broke off", was_sent=True)
        else:
            error = complaint(outcome)
        self._tries += 1
        wait_s = self._retries.wait_s(
            error,
            tries=self._tries,
            elapsed_s=self._clock() - self._lost_at,
            is_repeatable=True,
        )
        if wait_s is None:
            raise error
        return wait_s


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnexpectedAnswer("A job's event isn't JSON") from error
