"""What the client does for a call: retries, waits, and when it gives up. Free of I/O."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from voice_analytics_client import (
    ModelUnavailable,
    NotFound,
    Overloaded,
    RequestTimedOut,
    Retries,
    ServiceUnreachable,
    UnexpectedAnswer,
    VoiceAnalyticsError,
)
from voice_analytics_client.flows import Outcome, Send, Wait, call
from voice_analytics_client.requests import Request, nothing, text

RETRIES = Retries(attempts=4, within_s=60, first_s=1, longest_s=4, draw=lambda: 0.5)
GET = Request("GET", "/x", text)
POST_ONCE = Request("POST", "/x", text, is_repeatable=False)
OK = httpx.Response(200, text="fine")


def answer(status: int, kind: str, **headers: str) -> httpx.Response:
    shape = {"error": kind, "message": "…", "details": {"a": 1}, "request_id": "r1"}
    return httpx.Response(status, json=shape, headers=headers)


def carry_out(
    request: Request[Any], *outcomes: Outcome, retries: Retries = RETRIES
) -> tuple[Any, list[float]]:
    """What comes of a request when these are the outcomes of its tries, and its waits."""
    now, waits, left = [0.0], [], list(outcomes)
    flow = call(request, retries, clock=lambda: now[0])
    step = next(flow)
    try:
        while True:
            if isinstance(step, Wait):
                waits.append(step.seconds)
                now[0] += step.seconds
                step = flow.send(None)
            else:
                assert isinstance(step, Send) and step.request is request
                step = flow.send(left.pop(0))
    except StopIteration as end:
        assert left == []
        return end.value, waits
    except VoiceAnalyticsError as error:
        assert left == []
        return error, waits


def test_what_is_turned_away_for_now_is_tried_again_with_growing_waits() -> None:
    away = answer(503, "ModelUnavailable")
    assert carry_out(GET, away, away, away, OK) == ("fine", [1.0, 2.0, 2.0])


def test_retry_after_is_never_undercut() -> None:
    result, waits = carry_out(POST_ONCE, answer(429, "Overloaded", **{"Retry-After": "7"}), OK)
    assert result == "fine"
    assert waits[0] >= 7


def test_the_last_error_is_raised_with_what_the_service_said() -> None:
    full = answer(429, "Overloaded", **{"Retry-After": "1"})
    error, waits = carry_out(GET, full, full, full, full)
    assert isinstance(error, Overloaded)
    assert (error.status, error.request_id, error.details) == (429, "r1", {"a": 1})
    assert len(waits) == 3


def test_no_wait_beyond_the_limit() -> None:
    """A Retry-After of an hour must not hang a caller who gave a minute."""
    error, waits = carry_out(GET, answer(503, "StoreUnavailable", **{"Retry-After": "3600"}))
    assert isinstance(error, VoiceAnalyticsError)
    assert waits == []


def test_a_lost_connection_is_tried_again_only_where_twice_does_no_harm() -> None:
    lost = httpx.RemoteProtocolError("gone")
    assert carry_out(GET, lost, OK)[0] == "fine"
    error, waits = carry_out(POST_ONCE, lost)
    assert isinstance(error, ServiceUnreachable) and error.was_sent
    assert waits == []


def test_what_was_never_sent_is_tried_again_in_any_case() -> None:
    assert carry_out(POST_ONCE, httpx.ConnectError("refused"), OK)[0] == "fine"


def test_an_answer_that_takes_too_long_is_not_waited_for_again() -> None:
    error, waits = carry_out(GET, httpx.ReadTimeout(""))
    assert isinstance(error, RequestTimedOut)
    assert waits == []


@pytest.mark.parametrize("status, kind", [(404, "NotFound"), (504, "DeadlineExceeded")])
def test_errors_that_stay_are_final(status: int, kind: str) -> None:
    error, waits = carry_out(GET, answer(status, kind))
    assert type(error).__name__ == kind
    assert waits == []


def test_a_delete_whose_answer_was_lost_succeeds_though_it_is_then_gone() -> None:
    delete = Request("DELETE", "/x", nothing)
    gone = answer(404, "NotFound")
    assert carry_out(delete, httpx.ReadError(""), gone)[0] is None
    assert isinstance(carry_out(delete, gone)[0], NotFound)
    assert isinstance(carry_out(delete, httpx.ConnectError(""), gone)[0], NotFound)


def test_a_proxy_that_cannot_reach_the_service_is_an_outage() -> None:
    assert carry_out(GET, httpx.Response(502, text="<html>"), OK)[0] == "fine"


def test_an_answer_of_somebody_else_is_told_as_such() -> None:
    page = httpx.Response(404, text="<html>", request=httpx.Request("GET", "http://x/y"))
    error, _ = carry_out(GET, page)
    assert isinstance(error, UnexpectedAnswer)
    assert "http://x/y" in error.message


def test_unlimited_attempts_end_with_the_time() -> None:
    patient = Retries(attempts=None, within_s=10, first_s=1, longest_s=4, draw=lambda: 0.5)
    away = answer(503, "ModelUnavailable")
    error, waits = carry_out(GET, *[away] * 6, retries=patient)
    assert isinstance(error, ModelUnavailable)
    assert sum(waits) <= 10


def test_waits_are_spread() -> None:
    """A crowd that was turned away together must not come back together."""
    error = Overloaded("", retry_after_s=1)
    waits = {Retries().wait_s(error, tries=3, elapsed_s=0, is_repeatable=True) for _ in range(20)}
    assert len(waits) == 20
    assert all(1 <= wait <= 1 + 0.5 * 2**3 for wait in waits if wait is not None)
