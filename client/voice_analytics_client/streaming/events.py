"""What a live stream says. Times are seconds from the stream's start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voice_analytics_client.answers import Analysis, Emotion, Word
from voice_analytics_client.reading import read


@dataclass(frozen=True)
class Ready:
    """The stream has begun."""

    session_id: str


@dataclass(frozen=True)
class Resumed:
    """The connection had been lost and is back; nothing was."""

    received_samples: int
    received_bytes: int
    ended: bool = False


@dataclass(frozen=True)
class Partial:
    """The utterance under way; `text` begins with `stable`, which its later partials keep."""

    text: str
    stable: str
    start: float
    end: float


@dataclass(frozen=True)
class Final:
    """One utterance, for good; it replaces its partials."""

    seq: int
    text: str
    words: tuple[Word, ...]
    start: float
    end: float
    speaker: str | None
    emotion: Emotion | None
    language: str | None


@dataclass(frozen=True)
class Summary:
    """The whole stream, analysed as a file is, and stored."""

    seq: int
    analysis: Analysis


Event = Ready | Resumed | Partial | Final | Summary

_KINDS: dict[str, type[Ready | Resumed | Partial | Final]] = {
    "ready": Ready,
    "resumed": Resumed,
    "partial": Partial,
    "final": Final,
}


def event_of(message: Mapping[str, Any]) -> Event | None:
    """A message as an event; None for what isn't one, or is of a newer service.

    Raises:
        UnexpectedAnswer: a field is missing or of another type.
    """
    if message.get("type") == "summary":
        raw = {name: value for name, value in message.items() if name not in ("type", "seq")}
        return Summary(read(int, message.get("seq")), read(Analysis, raw))
    kind = _KINDS.get(str(message.get("type")))
    return None if kind is None else read(kind, message)
