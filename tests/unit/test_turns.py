"""Whoever has work for the event loop takes turns."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from api.turns import Turns


async def test_somebody_else_goes_on_between_two_turns() -> None:
    """64 uploads that arrived together were parsed before /health was heard."""
    turns, seen = Turns(), list[int | str]()

    async def work(number: int) -> None:
        await turns.take()
        seen.append(number)

    async def look_around() -> None:
        while len(seen) < 40:
            seen.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(8)), look_around())
    assert [entry for entry in seen if entry != "other"] == list(range(8))
    assert all("other" in pair for pair in pairwise(seen))


async def test_who_gives_up_waiting_holds_up_nobody() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting[:2]:
        task.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [
        True,
        True,
        False,
    ]
    await asyncio.wait_for(turns.take(), 5)
