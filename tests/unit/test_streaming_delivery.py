"""What waits to be looked at, and what waits to be delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from api.errors import Conflict, InvalidMessage, InvalidOption
from api.streaming.connection import _read as read_from
from api.streaming.inbox import Inbox
from api.streaming.messages import ConfigMessage, FinalEvent, PartialEvent, parse
from api.streaming.outbox import Outbox
from api.streaming.peers import first_of
from api.streaming.session import Session
from api.streaming.sessions import Seat


def final(text: str) -> FinalEvent:
    return FinalEvent(
        text=text, words=[], start=0.0, end=1.0, speaker=None, emotion=None, language="en"
    )


def partial(text: str) -> PartialEvent:
    return PartialEvent(text=text, stable="", start=0.0, end=1.0)


class Client:
    """Takes what is sent, or hangs up after so many events."""

    def __init__(self, hangs_up_after: int = 1000) -> None:
        self.events: list[dict[str, Any]] = []
        self._left = hangs_up_after

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "ack":
            return
        if self._left == 0:
            raise ConnectionError
        self._left -= 1
        self.events.append(event)

    @property
    def texts(self) -> list[str]:
        return [event["text"] for event in self.events]


def ack() -> dict[str, Any]:
    return {"type": "ack"}


async def test_what_a_lost_client_didnt_get_is_sent_again() -> None:
    outbox = Outbox()
    for text in ("one", "two", "three"):
        outbox.add(final(text))
    outbox.close()
    lost, back = Client(hangs_up_after=1), Client()
    with pytest.raises(ConnectionError):
        await outbox.deliver(lost.send, ack, 0)
    await outbox.deliver(back.send, ack, outbox.missed_from(None, was_cut_off=False))
    assert lost.texts + back.texts == ["one", "two", "three"]
    assert [event["seq"] for event in lost.events + back.events] == [1, 2, 3]


async def test_a_client_that_says_what_it_has_gets_exactly_the_rest() -> None:
    outbox = Outbox()
    for text in ("one", "two", "three"):
        outbox.add(final(text))
    outbox.close()
    await outbox.deliver(Client().send, ack, 0)
    for has in range(4):
        back = Client()
        await outbox.deliver(back.send, ack, outbox.missed_from(has, was_cut_off=False))
        assert [event["seq"] for event in back.events] == list(range(has + 1, 4))
    assert outbox.missed_from(99, was_cut_off=True) == 3


async def test_a_connection_that_died_unnoticed_took_what_was_sent_last_with_it() -> None:
    outbox = Outbox()
    outbox.add(final("one"))
    gone = asyncio.create_task(outbox.deliver(Client().send, ack, 0))
    await asyncio.sleep(0.01)
    outbox.heard_from_client()
    outbox.add(final("two"))
    await asyncio.sleep(0.01)
    gone.cancel()
    assert outbox.missed_from(None, was_cut_off=True) == 1
    assert outbox.missed_from(None, was_cut_off=False) == 2


async def test_a_slow_client_gets_the_latest_partial_and_every_final() -> None:
    outbox = Outbox()
    for text in ("a", "a b", "a b c"):
        outbox.show(partial(text))
    client = Client()
    delivering = asyncio.create_task(outbox.deliver(client.send, ack, 0))
    await asyncio.sleep(0.01)
    outbox.show(partial("obsolete"))
    outbox.add(final("done"))
    outbox.close()
    await delivering
    assert client.texts == ["a b c", "done"]


@pytest.mark.parametrize("ends_during", ["ack", "final"])
async def test_the_last_event_comes_behind_the_last_ack(ends_during: str) -> None:
    """A stream that ended while something was being sent had an ack behind its summary."""
    outbox = Outbox()
    outbox.add(final("one"))
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(event)
        if event["type"] == ends_during and not outbox.is_closed:
            outbox.add(final("last"))
            outbox.close()

    await asyncio.wait_for(outbox.deliver(send, ack, 0), 5)
    assert [event.get("text", "ack") for event in sent] == ["ack", "one", "ack", "last"]


async def test_who_fills_the_inbox_waits_until_it_is_looked_at() -> None:
    inbox = Inbox(10)
    await inbox.put(b"0123456789")
    waiting = asyncio.create_task(inbox.put(b"abc"))
    await asyncio.sleep(0.01)
    assert not waiting.done() and len(inbox) == 10
    assert await inbox.take(4) == b"0123"
    await waiting
    assert await inbox.take(100) == b"456789abc"


async def test_a_cancelled_put_leaves_nothing() -> None:
    """What a dying connection was about to put would come twice once the client resumed."""
    inbox = Inbox(1)
    await inbox.put(b"a")
    waiting = asyncio.create_task(inbox.put(b"b"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await inbox.close()
    assert await inbox.take(9) == b"a"
    assert await inbox.take(9) is None


async def test_what_is_put_after_another_connection_took_over_was_never_there() -> None:
    """The other connection had been told how much was received, and sent it a second time: the
    word that it fell into was lost."""
    inbox, seat = Inbox(1), Seat()
    await inbox.put(b"a")
    waiting = asyncio.create_task(inbox.put(b"b", lambda: not seat.is_taken))
    await asyncio.sleep(0.01)
    seat.taken.set()
    assert await inbox.take(9) == b"a"
    assert not await waiting and not inbox


class _Talkative:
    """A client whose messages had all arrived before it was gone."""

    async def receive(self) -> str | bytes:
        return b"audio"

    async def send(self, event: dict[str, Any]) -> None:
        raise AssertionError(event)


class _Listening:
    """What a connection needs of its session."""

    is_ended = is_waiting = False

    def __init__(self, seat: Seat) -> None:
        self.outbox = Outbox()
        self.taken: list[bytes] = []
        self._seat = seat

    async def receive(self, data: bytes, is_current: Callable[[], bool]) -> bool:
        self.taken.append(data)
        self._seat.taken.set()  # another connection comes while this one is being read
        return is_current()


async def test_a_connection_that_gave_its_seat_away_is_not_read_any_further() -> None:
    seat = Seat()
    session = _Listening(seat)
    for _ in range(2):
        with pytest.raises(Conflict):
            await read_from(_Talkative(), cast(Session, session), seat, 5.0)
    assert session.taken == [b"audio"]


async def test_a_closed_inbox_lets_everybody_go() -> None:
    inbox = Inbox(1)
    await inbox.put(b"a")
    waiting = asyncio.create_task(inbox.put(b"b"))
    await asyncio.sleep(0.01)
    await inbox.close()
    await waiting
    await inbox.put(b"c")
    assert await inbox.take(9) == b"a"
    assert await inbox.take(9) is None


async def test_the_first_to_come_back_ends_the_others() -> None:
    ended = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    async def fails() -> None:
        raise ConnectionError

    await first_of(forever(), asyncio.sleep(0))
    with pytest.raises(ConnectionError):
        await first_of(forever(), fails())
    assert ended == [True, True]


def test_a_config_needs_no_field() -> None:
    config = parse('{"type": "config"}')
    assert isinstance(config, ConfigMessage)
    assert (config.encoding, config.sample_rate, config.partials) == ("s16le", 16000, True)


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "1", "null", '{"type": "sing"}', "{}"])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage):
        parse(text)


@pytest.mark.parametrize(
    "field, value",
    [
        ("encoding", '"mp3"'),
        ("sample_rate", "100"),
        ("sample_rate", '"fast"'),
        ("diarize", '"maybe"'),
        ("colour", '"red"'),
    ],
)
def test_a_wrong_field_of_a_config_is_named(field: str, value: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(f'{{"type": "config", "{field}": {value}}}')
    assert field in str(caught.value.details)
