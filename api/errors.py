"""Everything that can go wrong, as one tree that knows nothing of HTTP.

    VoiceAnalyticsError
    ├── ConfigurationError            a setting or the installation is wrong
    ├── ValidationError               the caller's input
    │   ├── InvalidAudio              not audio, or empty
    │   ├── UnsupportedAudioFormat    audio of a kind that isn't decoded here
    │   ├── AudioTooLong
    │   ├── UploadTooLarge
    │   ├── InvalidOption
    │   └── InvalidMessage            a stream's message that isn't one, or comes out of turn
    ├── AuthenticationError           no API key, or one that isn't known
    ├── Forbidden                     asked from a place that isn't let in
    ├── NotFound
    ├── Conflict
    ├── UnusableRelease               a version of a model that can't serve
    ├── Overloaded                    the bound on work in flight is reached
    │   └── RateLimited               a caller's own bound is
    ├── ModelUnavailable              Triton or one of its models is away
    ├── StoreUnavailable              the database is absent, locked or full
    ├── DeadlineExceeded
    ├── IdleTimeout                   a live stream on which nothing arrives
    └── InferenceError                Triton answered with something unusable

`api.middleware` maps each class to an HTTP status once, and to a WebSocket close code once.
"""

from __future__ import annotations

from typing import Any


class VoiceAnalyticsError(Exception):
    """Base of the tree: `message` is for people, `details` for programs."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ConfigurationError(VoiceAnalyticsError):
    """A setting or the installation is wrong; raised at start, with what to do."""


class ValidationError(VoiceAnalyticsError):
    """The caller's input is wrong."""


class InvalidAudio(ValidationError):
    """The upload is empty or isn't audio."""


class UnsupportedAudioFormat(ValidationError):
    """The upload is of a kind that isn't decoded here."""


class AudioTooLong(ValidationError):
    """The recording is longer than the limit."""


class UploadTooLarge(ValidationError):
    """The upload has more bytes than the limit."""


class InvalidOption(ValidationError):
    """An option's value is out of range or contradicts another."""


class InvalidMessage(ValidationError):
    """A live stream's message isn't one of the protocol's, or comes out of turn."""


class AuthenticationError(VoiceAnalyticsError):
    """No API key, or one that isn't known."""


class Forbidden(VoiceAnalyticsError):
    """A web page of another origin asks, or under a host name that isn't this service's."""


class NotFound(VoiceAnalyticsError):
    """The resource doesn't exist."""


class Conflict(VoiceAnalyticsError):
    """The resource's state doesn't allow the operation."""


class UnusableRelease(VoiceAnalyticsError):
    """A version of a model isn't there, isn't what its manifest says, or doesn't work."""


class Overloaded(VoiceAnalyticsError):
    """The bound on work in flight is reached."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """The caller's own bound is reached, on requests a minute or on requests in flight."""


class ModelUnavailable(VoiceAnalyticsError):
    """Triton, or one of its models, is away; worth another try after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 2.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class StoreUnavailable(VoiceAnalyticsError):
    """The database is absent, locked or full; worth another try after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 2.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(VoiceAnalyticsError):
    """The request's deadline passed before the answer was ready."""


class IdleTimeout(VoiceAnalyticsError):
    """Nothing arrived on a live stream for too long."""


class InferenceError(VoiceAnalyticsError):
    """Triton answered with an error or with something unusable."""
