"""Who waits for a server that is away, for how long, and how often it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from api.errors import ModelUnavailable
from api.restarts import MOST_LOST, REFUSED_WITHIN_S, Restarts


class Server:
    """Away until it is told otherwise; counts what it is asked."""

    def __init__(self, status: str = "UNAVAILABLE") -> None:
        self.status: str | None = status
        self.is_ready = False
        self.works_for_s = 0.0
        self.asked = self.looked_at = 0
        self.ended: list[bool] = []

    async def ask(self) -> str:
        self.asked += 1
        await asyncio.sleep(self.works_for_s)
        if self.status is not None:
            raise ModelUnavailable("It is away", model="whisper", status=self.status)
        return "answer"

    async def look(self, model: str, version: str) -> bool:
        self.looked_at += 1
        return self.is_ready

    def come_back(self) -> None:
        self.status, self.is_ready = None, True


def asking(
    server: Server, *, waits: Callable[[], bool] = lambda: True, for_s: float = 5.0
) -> Callable[[], Awaitable[str]]:
    restarts = Restarts(server.look, lambda m, v: waits(), lambda m, ok: server.ended.append(ok))
    return lambda: restarts.ride_out("whisper", "1", time.monotonic() + for_s, server.ask)


async def test_all_who_met_an_absent_server_are_answered_when_it_is_back() -> None:
    server = Server()
    ask = asking(server)
    asyncio.get_running_loop().call_later(0.5, server.come_back)
    assert await asyncio.gather(*(ask() for _ in range(50))) == ["answer"] * 50
    assert server.asked == 100
    assert server.ended == [True] * 50
    assert server.looked_at < 60  # one looked at a time, however many waited


async def test_nobody_waits_for_longer_than_its_deadline() -> None:
    server = Server()
    started = time.monotonic()
    with pytest.raises(ModelUnavailable):
        await asking(server, for_s=0.3)()
    assert 0.25 < time.monotonic() - started < 2
    assert server.ended == [False]


@pytest.mark.parametrize("status", ["INTERNAL", "UNKNOWN"])
async def test_a_models_own_failure_is_no_absence(status: str) -> None:
    server = Server(status)
    with pytest.raises(ModelUnavailable):
        await asking(server)()
    assert (server.asked, server.looked_at) == (1, 0)


async def test_what_a_restart_does_not_bring_back_is_not_waited_for() -> None:
    server = Server("NOT_FOUND")
    with pytest.raises(ModelUnavailable):
        await asking(server, waits=lambda: False)()
    assert (server.asked, server.ended) == (1, [])


async def test_who_waits_for_a_version_that_is_replaced_meanwhile_waits_no_more() -> None:
    server, is_stable = Server(), [True]
    asyncio.get_running_loop().call_later(0.3, is_stable.clear)
    started = time.monotonic()
    with pytest.raises(ModelUnavailable):
        await asking(server, waits=lambda: bool(is_stable), for_s=20)()
    assert time.monotonic() - started < 5


async def test_a_request_that_servers_die_of_is_not_asked_for_ever() -> None:
    server = Server()
    server.is_ready, server.works_for_s = True, REFUSED_WITHIN_S + 0.1
    with pytest.raises(ModelUnavailable):
        await asking(server, for_s=20)()
    assert server.asked == MOST_LOST


async def test_a_replica_that_is_behind_is_asked_until_another_one_answers() -> None:
    server = Server()
    server.is_ready = True
    asyncio.get_running_loop().call_later(1.5, server.come_back)
    assert await asking(server)() == "answer"
    assert server.asked > MOST_LOST
