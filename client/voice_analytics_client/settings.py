"""Where the service is and how long to wait for it: arguments, else the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:6500"
URL_VARIABLE = "VOICE_ANALYTICS_URL"
KEY_VARIABLE = "VOICE_ANALYTICS_API_KEY"
USER_AGENT = f"voice-analytics-client/{version('voice-analytics-client')}"

TIMEOUT_S = 150.0
"""Longest wait for an answer: above the service's own REQUEST_TIMEOUT of 120 s, so that its error
and not ours says what happened."""

CONNECT_TIMEOUT_S = 5.0

GRACE_S = 2.0
"""How much longer than it was told the service may take to say that the time is up."""


@dataclass(frozen=True)
class Connection:
    """A service's address, the key for it, and the wait for an answer in seconds."""

    url: str
    api_key: str | None = field(repr=False)
    timeout_s: float = TIMEOUT_S

    @classmethod
    def of(cls, url: str | None, api_key: str | None, timeout_s: float) -> Connection:
        """What was given, else VOICE_ANALYTICS_URL and VOICE_ANALYTICS_API_KEY.

        Raises:
            ValueError: the URL isn't http:// or https://.
        """
        found = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        if urlsplit(found).scheme not in ("http", "https") or not urlsplit(found).netloc:
            raise ValueError(f"The service's URL must be like {DEFAULT_URL}, not {found!r}")
        return cls(found, api_key or os.environ.get(KEY_VARIABLE) or None, timeout_s)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request; the key travels in a header, never in an address."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"User-Agent": USER_AGENT} | key

    @property
    def stream_url(self) -> str:
        return "ws" + self.url[len("http") :] + "/audio/stream"
