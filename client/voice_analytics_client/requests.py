"""A request as data: what to send, how to read the answer, whether it may be sent twice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import httpx

from voice_analytics_client.errors import (
    ServiceUnreachable,
    UnexpectedAnswer,
    VoiceAnalyticsError,
    from_shape,
)
from voice_analytics_client.reading import read

T = TypeVar("T")

AudioFile = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, which is streamed from disk; the bytes; or an open file, which is read whole."""

PROXY_ERRORS = (502, 503, 504)
"""Without the service's error shape these come from a proxy that can't reach it."""


@dataclass(frozen=True)
class Upload:
    """A recording to send, as often as it takes."""

    name: str
    source: Path | bytes = field(repr=False)

    @classmethod
    def of(cls, file: AudioFile) -> Upload:
        if isinstance(file, bytes):
            return cls("audio", file)
        if isinstance(file, (str, os.PathLike)):
            return cls(Path(file).name, Path(file))
        return cls(Path(str(getattr(file, "name", "audio"))).name, file.read())

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes] | bytes]:
        """From its beginning.

        Raises:
            OSError: the file can't be read.
        """
        if isinstance(self.source, bytes):
            yield self.source
        else:
            with open(self.source, "rb") as file:
                yield file


@dataclass(frozen=True)
class Request(Generic[T]):
    """One call of the service.

    `is_repeatable` says that doing it twice is as good as doing it once; only then is it sent again
    when nobody knows whether it was carried out.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    uploads: tuple[tuple[str, Upload], ...] = ()
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    timeout_s: float | None = None

    @contextlib.contextmanager
    def arguments(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """What httpx wants to know; the uploads are open within the block. The service is told the
        timeout, so that it doesn't work on when nobody waits any more."""
        with contextlib.ExitStack() as stack:
            files = [
                (field_name, (upload.name, stack.enter_context(upload.opened())))
                for field_name, upload in self.uploads
            ]
            yield {
                "method": self.method,
                "url": self.path,
                "params": plain(self.params),
                "headers": {"X-Request-Timeout": f"{timeout_s:g}", **self.headers},
                **({"data": plain(self.form)} if self.form else {}),
                **({"files": files} if files else {}),
                **({"json": self.body} if self.body is not None else {}),
            }


def plain(values: Mapping[str, Any]) -> dict[str, str]:
    """Fields as a query or form carries them; None leaves one out."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }


def json_as(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Reads an answer's JSON as a dataclass.

    Raises (when it reads):
        UnexpectedAnswer: it isn't that.
    """

    def reader(response: httpx.Response) -> T:
        return read(kind, json_of(response))

    return reader


def json_of(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise UnexpectedAnswer(
            f"{response.request.url} answered {response.status_code} with something that isn't "
            "JSON; is that the service's address?"
        ) from error


def text(response: httpx.Response) -> str:
    return response.text


def nothing(response: httpx.Response) -> None:
    return None


def error_of(response: httpx.Response) -> VoiceAnalyticsError:
    """What an answer complains of; its body must have been read."""
    status = response.status_code
    try:
        shape = response.json()
    except ValueError:
        shape = None
    if isinstance(shape, Mapping) and "error" in shape and "message" in shape:
        return from_shape(shape, status=status, retry_after_s=_retry_after_s(response))
    if status in PROXY_ERRORS:
        return ServiceUnreachable(
            f"Something in front of the service answered {status}", was_sent=True
        )
    return UnexpectedAnswer(
        f"{response.request.url} answered {status} in words that aren't the service's; "
        "is that its address?"
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After in seconds; its other form, a date, isn't what the service sends."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
