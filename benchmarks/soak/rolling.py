"""Now and then a version of `emotion` comes and goes: a canary, its promotion, the way back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from benchmarks.rollouts import GATES
from benchmarks.soak.callers import Callers, GaveUp
from benchmarks.soak.ledger import Ledger

_PATIENCE_S: Final = 300.0
_ACTIVE: Final = ("preparing", "running", "paused")


async def roll_forth_and_back(callers: Callers, ledger: Ledger, step_s: float) -> None:
    """One canary of version 2 to its promotion, and version 1 back; all is in the ledger."""
    canary = {"version": "2", "steps": [50, 100], "step_seconds": step_s, "auto_promote": True}
    with contextlib.suppress(GaveUp):
        if await _stable(callers) == "1":
            path = "/models/emotion/rollouts"
            body = canary | {"gates": GATES | {"min_requests": 1}}
            # 409: an earlier try got through, and only its answer was lost
            await callers.request("POST", path, allowed=(202, 409), json=body)
            await _wait(callers, ledger, (await _rollouts(callers))[0]["id"])
        if await _stable(callers) == "2":
            await asyncio.sleep(step_s)
            done = [r for r in await _rollouts(callers) if r["strategy"] == "canary"]
            path = f"/models/emotion/rollouts/{done[0]['id']}/rollback"
            await callers.request("POST", path, allowed=(200, 409))
            await _wait(callers, ledger, (await _rollouts(callers))[0]["id"])


async def _stable(callers: Callers) -> str:
    items = (await callers.request("GET", "/models")).json()["items"]
    return str(next(item["version"] for item in items if item["name"] == "emotion"))


async def _rollouts(callers: Callers) -> list[dict[str, Any]]:
    """All of them, newest first."""
    answer = await callers.request("GET", "/models/emotion/rollouts")
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def _wait(callers: Callers, ledger: Ledger, rollout: int) -> None:
    """Until a rollout is over."""
    began_s = ledger.now_s()
    while True:
        found = (await callers.request("GET", f"/models/emotion/rollouts/{rollout}")).json()
        if found["status"] not in _ACTIVE:
            break
        if ledger.now_s() - began_s > _PATIENCE_S:
            ledger.fault("rollout stuck", f"{found['status']} for {_PATIENCE_S:.0f} s: {found}")
            raise GaveUp
        await asyncio.sleep(1.0)
    about = {key: found[key] for key in ("id", "strategy", "version", "status", "reason")}
    ledger.rollouts.append({"began_s": began_s, "over_s": ledger.now_s(), **about})
    if found["status"] != "promoted":
        ledger.trouble("rollout ended", f"{about}", began_s)
