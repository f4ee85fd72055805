"""Kills one process, or cuts connections, at seeded moments; sees the service come back."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Final

import httpx

from benchmarks.soak.ledger import Kill, Ledger, Outage
from benchmarks.soak.meter import Meter, role_of

BACK_WITHIN_S: Final = 120.0
_LOOKS: Final = 3
"""So many times in a row it must say that it is ready: another worker may answer each time."""

_ROLES: Final[dict[str, str]] = {"worker": "worker", "stub": "stub", "triton": "triton"}


def kinds() -> list[Kill]:
    """What can be killed: databases are those that the environment names."""
    found: list[Kill] = ["worker", "stub", "triton"]
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        found.append("postgres")
    if os.environ.get("REDIS_URL"):
        found.append("redis")
    return found


def schedule(seed: int, every_s: float, wanted: list[Kill]) -> Iterator[tuple[float, Kill]]:
    """Pauses and kills without end; every kind comes once before any comes again."""
    rng = random.Random(seed)
    while True:
        for kind in rng.sample(wanted, len(wanted)):
            yield every_s * rng.uniform(0.5, 1.5), kind


class Chaos:
    """Hurts one service."""

    def __init__(self, url: str, meter: Meter, ledger: Ledger, seed: int) -> None:
        self._url = url
        self._meter = meter
        self._ledger = ledger
        self._random = random.Random(seed)

    async def strike(self, kind: Kill) -> None:
        """One kill, and the time until all is back."""
        began_s = self._ledger.now_s()
        place = len(self._ledger.outages)
        if kind in _ROLES:
            alive = list(self._meter.roles())
            before = [role for role, _ in alive]
            there = [(role, process) for role, process in alive if role.startswith(_ROLES[kind])]
            if not there:
                self._ledger.fault("not there", f"no {kind} to kill")
                return
            role, victim = self._random.choice(there)
            name = f"{role} {victim.pid}"
            self._ledger.outages.append(Outage(kind, name, began_s, None))
            victim.kill()
        else:
            role, victim, before = "", None, []
            name = f"{await _cut(kind)} connections"
            self._ledger.outages.append(Outage(kind, name, began_s, None))
        in_a_row = 0
        while in_a_row < _LOOKS:
            if self._ledger.now_s() - began_s > BACK_WITHIN_S:
                self._ledger.fault("not back", f"{name}: {BACK_WITHIN_S:.0f} s after its end")
                return
            await asyncio.sleep(0.3)
            gone = victim is None or role_of(victim.pid) is None
            back = gone and self._all_there(role, before) and await self._is_ready()
            in_a_row = in_a_row + 1 if back else 0
        over_s = self._ledger.now_s()
        self._ledger.outages[place] = Outage(kind, name, began_s, over_s)

    def _all_there(self, role: str, before: list[str]) -> bool:
        """Whether a role is filled as before; Triton's, with a process for every model."""
        now = [name for name, _ in self._meter.roles()]
        if role == "triton":
            return set(before) <= set(now)
        wanted = 1 if role.startswith("stub") else before.count(role)
        return now.count(role) >= min(before.count(role), wanted)

    async def _is_ready(self) -> bool:
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as client:
            try:
                return (await client.get("/health/ready")).status_code == 200
            except httpx.TransportError:
                return False


async def _cut(kind: Kill) -> int:
    """Ends all connections to a database but our own; returns how many there were."""
    return await (_cut_postgres() if kind == "postgres" else _cut_redis())


async def _cut_postgres() -> int:
    import asyncpg

    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        rows = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return len(rows)


async def _cut_redis() -> int:
    from redis.asyncio import Redis

    async with Redis.from_url(os.environ["REDIS_URL"]) as client:
        return int(await client.client_kill_filter(_type="normal", skipme=True))
