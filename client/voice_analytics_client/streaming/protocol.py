"""A live stream's state, free of I/O: what to send next, what was heard, what a close means.

Audio is kept until the service acknowledges it. When a connection is lost, the next one begins with
`resume`, the service says how much it has, and sending goes on from there; finals are numbered, so
that none comes twice. So no word is lost, however often the connection is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from voice_analytics_client.errors import (
    InternalError,
    NotFound,
    ServiceError,
    ServiceUnreachable,
    StreamLost,
    UnexpectedAnswer,
    VoiceAnalyticsError,
    from_shape,
)
from voice_analytics_client.reading import read
from voice_analytics_client.streaming.events import Event, Final, Ready, Resumed, Summary, event_of

FRAME_BYTES = 2**16
"""Largest binary message; the service takes up to 1 MiB."""

END = '{"type": "end"}'

NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, RESTARTING, IDLE = 1000, 1001, 1005, 1006, 1012, 4408

RESUMABLE = (GOING_AWAY, NO_CODE, ABNORMAL, IDLE)
"""Close codes after which the session is still there; docs/streaming.md."""


@dataclass(frozen=True)
class StreamConfig:
    """How the audio comes and what to hear in it.

    Args:
        encoding: `s16le` or `f32le`, raw mono samples, little endian; `webm` or `ogg`, the chunks
            of such a file in order.
        sample_rate: of raw samples, in Hz.
        language: Whisper's code; None = hear it from each utterance.
        diarize: tell the speakers apart.
        identify_speakers: give those whose voices were enrolled their names.
        emotions: hear the emotions.
        partials: show utterances under way.
    """

    encoding: Literal["s16le", "f32le", "webm", "ogg"] = "s16le"
    sample_rate: int = 16_000
    language: str | None = None
    diarize: bool = True
    identify_speakers: bool = True
    emotions: bool = True
    partials: bool = True


class StreamState:
    """One stream, across its connections."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._kept = bytearray()
        self._kept_from = 0
        self._sent_to = 0
        self._has_ended = self._end_is_sent = False
        self.is_greeted = False  # by the service, on the connection under way
        self._last_seq = 0
        self._complaint: Mapping[str, Any] | None = None
        self.session_id: str | None = None
        self.is_summed_up = False

    @property
    def unacknowledged_bytes(self) -> int:
        """Audio that may have to be sent again."""
        return len(self._kept)

    def push(self, audio: bytes) -> None:
        """More audio.

        Raises:
            ValueError: the end was said.
        """
        if self._has_ended:
            raise ValueError("Audio came after the end")
        self._kept += audio

    def end(self) -> None:
        """No more audio will come; may be said twice."""
        self._has_ended = True

    def hang_up(self) -> None:
        """Say the end next; audio that wasn't sent yet is dropped."""
        del self._kept[self._sent_to - self._kept_from :]
        self._has_ended = True

    def connecting(self) -> str:
        """The first message of a new connection."""
        self.is_greeted = self._end_is_sent = False
        self._complaint = None
        if self.session_id is None:
            return json.dumps({"type": "config", **asdict(self._config)})
        resume = {"type": "resume", "session_id": self.session_id, "last_seq": self._last_seq}
        return json.dumps(resume)

    def next_message(self) -> bytes | str | None:
        """What to send now, if anything; nothing before the service has greeted."""
        if not self.is_greeted:
            return None
        at = self._sent_to - self._kept_from
        frame = bytes(self._kept[at : at + FRAME_BYTES])
        if frame:
            self._sent_to += len(frame)
            return frame
        if self._has_ended and not self._end_is_sent:
            self._end_is_sent = True
            return END
        return None

    def heard(self, text: str | bytes) -> Event | None:
        """Take in a message; the event that it is, if the stream's user should see it.

        Raises:
            UnexpectedAnswer: it isn't one of the protocol's.
        """
        try:
            message = json.loads(text)
        except ValueError as error:
            raise UnexpectedAnswer("The stream said something that isn't JSON") from error
        if not isinstance(message, dict):
            raise UnexpectedAnswer("The stream said something that isn't an object")
        kind = message.get("type")
        if kind == "error":
            self._complaint = message
        elif kind == "ack":
            self._acknowledge(read(int, message.get("received_bytes")))
        event = event_of(message)
        if isinstance(event, Ready):
            self.session_id = event.session_id
            self.is_greeted = True
        if isinstance(event, Resumed):
            self._resume(event)
        if isinstance(event, (Final, Summary)):
            if event.seq <= self._last_seq:
                return None
            self._last_seq = event.seq
            self.is_summed_up |= isinstance(event, Summary)
        return event

    def closed(self, code: int) -> VoiceAnalyticsError | None:
        """What a close means: None, the stream is over; ServiceUnreachable, connect again;
        any other error is the end."""
        if self._complaint is not None and code != IDLE:
            return self._error(from_shape(self._complaint, close_code=code))
        if self.is_summed_up:
            return None
        if code in RESUMABLE:
            return ServiceUnreachable("The connection was lost", was_sent=True)
        if code == RESTARTING:
            return StreamLost("The service was stopped; it keeps what it had heard until then")
        return InternalError(f"The service ended the stream with code {code}", close_code=code)

    def _error(self, error: ServiceError) -> VoiceAnalyticsError:
        if isinstance(error, NotFound) and self.session_id is not None:
            return StreamLost(
                "The service doesn't know the stream any more: it was away for too long, or "
                "its process was restarted"
            )
        return error

    def _acknowledge(self, received: int) -> None:
        if received > self._kept_from:
            del self._kept[: received - self._kept_from]
            self._kept_from = received

    def _resume(self, event: Resumed) -> None:
        self._acknowledge(event.received_bytes)
        self._sent_to = self._kept_from
        self._end_is_sent = event.ended
        self.is_greeted = True
