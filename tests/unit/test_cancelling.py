"""Tasks end when they are told to, also when the first word of it is swallowed."""

from __future__ import annotations

import asyncio

from api.cancelling import cancelled


async def test_a_cancellation_that_wait_for_swallows_is_repeated() -> None:
    """The moment of bpo-42130: the result is there, and nobody has taken it yet."""
    results: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def ask() -> None:
        result = asyncio.get_running_loop().create_future()
        results.put_nowait(result)
        await result

    async def renew() -> None:
        while True:
            await asyncio.wait_for(ask(), 60)

    task = asyncio.create_task(renew())
    result = await results.get()
    result.set_result(None)
    await asyncio.sleep(0)
    await asyncio.wait_for(cancelled(task), 10)
    assert task.cancelled()


async def test_one_that_failed_or_ended_before_is_no_trouble() -> None:
    async def fail() -> None:
        raise ValueError

    tasks = [asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.wait(tasks)
    await cancelled(*tasks)
    await cancelled()
