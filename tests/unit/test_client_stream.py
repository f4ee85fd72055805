"""The client's side of a live stream across lost connections. Free of I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voice_analytics_client import (
    Conflict,
    Final,
    InternalError,
    InvalidAudio,
    Overloaded,
    Ready,
    Resumed,
    ServiceUnreachable,
    StreamConfig,
    StreamLost,
    TooLarge,
    UnexpectedAnswer,
)
from voice_analytics_client.streaming.protocol import END, FRAME_BYTES, StreamState

AUDIO = bytes(range(256)) * 1000


def hear(state: StreamState, **message: Any) -> Any:
    return state.heard(json.dumps(message))


def final(seq: int) -> dict[str, Any]:
    times = {"start": 0.0, "end": 1.0}
    whose = {"speaker": None, "emotion": None, "language": None}
    return {"type": "final", "seq": seq, "text": "one", "words": [], **times, **whose}


def sent(state: StreamState) -> list[bytes | str]:
    messages = []
    while (message := state.next_message()) is not None:
        messages.append(message)
    return messages


def greeted() -> StreamState:
    state = StreamState(StreamConfig(sample_rate=8000))
    state.connecting()
    assert hear(state, type="ready", session_id="s1") == Ready("s1")
    return state


def test_nothing_is_sent_before_the_greeting() -> None:
    state = StreamState(StreamConfig(sample_rate=8000, language="en"))
    assert json.loads(state.connecting()) == {
        "type": "config",
        "encoding": "s16le",
        "sample_rate": 8000,
        "language": "en",
        "diarize": True,
        "identify_speakers": True,
        "emotions": True,
        "partials": True,
    }
    state.push(AUDIO)
    assert sent(state) == []
    hear(state, type="ready", session_id="s1")
    assert b"".join(m for m in sent(state) if isinstance(m, bytes)) == AUDIO


def test_frames_stay_below_what_the_service_takes() -> None:
    state = greeted()
    state.push(AUDIO)
    assert max(len(message) for message in sent(state)) <= FRAME_BYTES


def test_what_was_not_acknowledged_is_sent_again_behind_what_was() -> None:
    state = greeted()
    state.push(AUDIO[:1000])
    sent(state)
    hear(state, type="ack", received_samples=200, received_bytes=400)
    assert state.unacknowledged_bytes == 600
    hear(state, **final(1))
    resume = json.loads(state.connecting())
    assert resume == {"type": "resume", "session_id": "s1", "last_seq": 1}
    state.push(AUDIO[1000:1100])
    assert sent(state) == []
    told = hear(state, type="resumed", received_samples=300, received_bytes=600, ended=False)
    assert told == Resumed(300, 600)
    assert sent(state) == [AUDIO[600:1100]]


def test_the_end_is_said_once_on_each_connection_that_needs_it() -> None:
    state = greeted()
    state.push(b"ab")
    state.end()
    assert sent(state) == [b"ab", END]
    state.connecting()
    hear(state, type="resumed", received_samples=1, received_bytes=2, ended=False)
    assert sent(state) == [END]
    state.connecting()
    hear(state, type="resumed", received_samples=1, received_bytes=2, ended=True)
    assert sent(state) == []
    with pytest.raises(ValueError, match="after the end"):
        state.push(b"c")


def test_a_final_that_comes_twice_is_told_once() -> None:
    state = greeted()
    assert isinstance(hear(state, **final(1)), Final)
    assert hear(state, **final(1)) is None
    assert isinstance(hear(state, **final(2)), Final)


def test_messages_of_a_newer_service_are_left_alone() -> None:
    assert hear(greeted(), type="weather", sky="blue") is None


@pytest.mark.parametrize("text", ["no json", "[]", '{"type": "ack"}', '{"type": "final"}'])
def test_what_is_not_the_protocol_is_refused(text: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        greeted().heard(text)


@pytest.mark.parametrize("code", [1001, 1005, 1006, 4408])
def test_after_these_codes_the_session_is_still_there(code: int) -> None:
    assert isinstance(greeted().closed(code), ServiceUnreachable)


def test_an_idle_session_is_taken_up_again_though_the_service_complained() -> None:
    state = greeted()
    hear(state, type="error", error="IdleTimeout", message="…", details={}, request_id="r")
    assert isinstance(state.closed(4408), ServiceUnreachable)


@pytest.mark.parametrize(
    "kind, code, expected",
    [
        ("ValidationError", 1003, InvalidAudio),
        ("ValidationError", 1009, TooLarge),
        ("Overloaded", 1013, Overloaded),
        ("Conflict", 4409, Conflict),
        ("NotFound", 4404, StreamLost),
    ],
)
def test_an_error_of_the_service_is_told(kind: str, code: int, expected: type[Exception]) -> None:
    state = greeted()
    hear(state, type="error", error=kind, message="why", details={"a": 1}, request_id="r1")
    error = state.closed(code)
    assert type(error) is expected
    assert getattr(error, "request_id", "r1") == "r1"


def test_a_restart_and_an_unknown_code_end_the_stream() -> None:
    assert isinstance(greeted().closed(1012), StreamLost)
    error = greeted().closed(1011)
    assert isinstance(error, InternalError) and error.close_code == 1011
