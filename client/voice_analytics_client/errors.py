"""Everything that can go wrong, as one tree.

    VoiceAnalyticsError
    ├── ServiceUnreachable            no connection, or it broke before the answer was there
    │   └── RequestTimedOut           no answer within the client's own timeout
    ├── UnexpectedAnswer              an answer that this service doesn't give: is the URL right?
    ├── StreamLost                    a live stream that can't be taken up again
    ├── JobEnded                      a job that was waited for ended without an analysis
    └── ServiceError                  the service's own word, with `status` and `request_id`
        ├── ValidationError           the input is wrong
        │   ├── InvalidAudio          400: not audio, or empty
        │   ├── TooLarge              413: too long or too large
        │   ├── UnsupportedFormat     415: audio of a kind that isn't decoded there
        │   └── InvalidOption         422: a wrong or contradictory option
        ├── AuthenticationError       401
        ├── Forbidden                 403
        ├── NotFound                  404
        ├── MethodNotAllowed          405
        ├── IdleTimeout               408
        ├── Conflict                  409
        ├── UnusableRelease           409: a version of a model that can't serve
        ├── Overloaded                429: come back after `retry_after_s`
        │   └── RateLimited           429: likewise; it is the key's own bound
        ├── InternalError             500
        ├── InferenceError            502
        ├── ModelUnavailable          503: likewise
        ├── StoreUnavailable          503: likewise
        └── DeadlineExceeded          504

The names are those that the service sends in `error`; what it calls ValidationError is told apart
by its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class VoiceAnalyticsError(Exception):
    """Base of the tree: `message` is for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ServiceUnreachable(VoiceAnalyticsError):
    """No connection, or it broke before the answer was there.

    `was_sent` tells whether the request may have been carried out all the same.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class RequestTimedOut(ServiceUnreachable):
    """No answer within the client's own timeout."""


class UnexpectedAnswer(VoiceAnalyticsError):
    """An answer that this service doesn't give."""


class StreamLost(VoiceAnalyticsError):
    """A live stream that can't be taken up again; finals until here stay as they are."""


class JobEnded(VoiceAnalyticsError):
    """A job that was waited for failed or was cancelled; `error` is the service's reason."""

    def __init__(self, message: str, job_id: str, error: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.error = dict(error or {})


class ServiceError(VoiceAnalyticsError):
    """The service answered with an error.

    `status` is HTTP's, `close_code` a live stream's; `request_id` names the request in the
    service's logs.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        status: int | None = None,
        close_code: int | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        self.status = status
        self.close_code = close_code
        self.details = dict(details or {})
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """The message with its details, and what the service's log calls the request."""
        details = "; ".join(f"{name}: {value}" for name, value in self.details.items())
        request = f" [request {self.request_id}]" if self.request_id else ""
        return self.message + (f" ({details})" if details else "") + request


class ValidationError(ServiceError):
    """The input is wrong."""


class InvalidAudio(ValidationError):
    """The upload is empty or isn't audio."""


class TooLarge(ValidationError):
    """The recording is too long, or the upload has too many bytes."""


class UnsupportedFormat(ValidationError):
    """Audio of a kind that isn't decoded there."""


class InvalidOption(ValidationError):
    """An option is wrong or contradicts another."""


class AuthenticationError(ServiceError):
    """No API key, or one that isn't known."""


class Forbidden(ServiceError):
    """Asked from a place, or under a host name, that isn't let in."""


class NotFound(ServiceError):
    """There is nothing by that id or address."""


class MethodNotAllowed(ServiceError):
    """The address doesn't take that method."""


class IdleTimeout(ServiceError):
    """Nothing was sent for too long."""


class Conflict(ServiceError):
    """The resource's state doesn't allow it."""


class UnusableRelease(ServiceError):
    """A version of a model isn't there, isn't what its manifest says, or doesn't work."""


class Overloaded(ServiceError):
    """As much is in flight as may be; come back after `retry_after_s`."""


class RateLimited(Overloaded):
    """The key's own bound is reached, on requests a minute or in flight."""


class InternalError(ServiceError):
    """Something broke in the service."""


class InferenceError(ServiceError):
    """A model answered with something unusable."""


class ModelUnavailable(ServiceError):
    """A model is away; come back after `retry_after_s`."""


class StoreUnavailable(ServiceError):
    """The service's database is away; come back after `retry_after_s`."""


class DeadlineExceeded(ServiceError):
    """The service's deadline passed before the answer was ready."""


KINDS: dict[str, type[ServiceError]] = {
    kind.__name__: kind
    for kind in (
        ValidationError,
        AuthenticationError,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        IdleTimeout,
        Conflict,
        UnusableRelease,
        Overloaded,
        RateLimited,
        InternalError,
        InferenceError,
        ModelUnavailable,
        StoreUnavailable,
        DeadlineExceeded,
    )
}
"""Name on the wire → exception."""

INPUT_ERRORS: dict[int, type[ValidationError]] = {
    400: InvalidAudio,
    413: TooLarge,
    415: UnsupportedFormat,
    422: InvalidOption,
}
"""What the service calls ValidationError, by status."""

CLOSED_INPUT_ERRORS: dict[int, type[ValidationError]] = {
    1003: InvalidAudio,
    1008: InvalidOption,
    1009: TooLarge,
}
"""Likewise, by a live stream's close code."""

TEMPORARY = (Overloaded, ModelUnavailable, StoreUnavailable)
"""The service did nothing yet and says so: worth another try."""


def from_shape(
    shape: Mapping[str, Any],
    *,
    status: int | None = None,
    close_code: int | None = None,
    retry_after_s: float | None = None,
) -> ServiceError:
    """The exception for the one error shape; a kind that a newer service added is ServiceError."""
    kind = str(shape.get("error", ""))
    exception = KINDS.get(kind, ServiceError)
    if exception is ValidationError:
        exception = INPUT_ERRORS.get(status or 0, exception)
        exception = CLOSED_INPUT_ERRORS.get(close_code or 0, exception)
    details = shape.get("details")
    return exception(
        str(shape.get("message", "")),
        kind=kind,
        status=status,
        close_code=close_code,
        details=details if isinstance(details, Mapping) else None,
        request_id=shape.get("request_id"),
        retry_after_s=retry_after_s,
    )
