"""Rollouts in the database: one at a time, no lost change, one worker that carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from api.errors import Conflict, InvalidOption, NotFound
from api.rollouts import transitions
from api.rollouts.store import RolloutStore
from api.rollouts.types import Plan
from api.serving.gates import Gates, Side, Window
from api.store.database import Database
from tests.integration.databases import PostgresServer

STABLE = {"whisper": "1", "emotion": "1", "speaker_embedding": "1"}
PLAN = Plan("emotion", "2", "canary", (10, 50), 0.0, Gates(), False)


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RolloutStore]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'rollouts.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    database = Database(url, timeout_s=20)
    store = RolloutStore(database, "repository")
    await store.ensure(STABLE)
    yield store
    await database.close()


async def test_one_rollout_of_a_model_at_a_time(store: RolloutStore) -> None:
    begun = await asyncio.gather(*(store.start(PLAN) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in begun) == 4
    (rollout,) = (await store.state()).active
    assert (rollout.plan, rollout.from_version, rollout.status) == (PLAN, "1", "preparing")
    await store.change(rollout.id, lambda r: transitions.fail(r, gate="load", reason="it can't"))
    assert (await store.start(PLAN)).id != rollout.id
    assert [r.status for r in await store.of_model("emotion")] == ["preparing", "failed"]


async def test_a_promotion_changes_what_serves_for_this_repository_only(
    store: RolloutStore,
) -> None:
    other = RolloutStore(store._database, "another")
    await other.ensure(STABLE)
    rollout = await store.start(PLAN)
    await store.change(rollout.id, transitions.prepared)
    await store.change(rollout.id, partial(transitions.promote, by="operator"))
    state = await store.state()
    assert (state.stable["emotion"].version, state.retiring) == ("2", True)
    assert (await other.state()).stable["emotion"].version == "1"
    await store.ensure(STABLE)  # the next start of the service
    assert (await store.state()).stable["emotion"].version == "2"
    with pytest.raises(Conflict):
        await store.start(PLAN)
    with pytest.raises(NotFound):
        await other.get("emotion", rollout.id)
    await store.settle(state.revision)
    assert (await store.state()).is_settled
    kinds = [event.kind for event in await store.events(rollout.id)]
    assert kinds == ["created", "started", "promoted"]


async def test_two_operators_never_overwrite_each_other(store: RolloutStore) -> None:
    rollout = await store.start(PLAN)
    running = await store.change(rollout.id, transitions.prepared)
    assert (running.status, running.weight) == ("running", 10)
    changes = [
        store.change(
            rollout.id,
            lambda r, weight=weight: transitions.set_weight(r, weight),  # type: ignore[misc]
            expected_revision=running.revision,
        )
        for weight in (20, 30, 40)
    ]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 2
    with pytest.raises(Conflict):
        await store.change(rollout.id, transitions.resume)
    walked = await store.change(rollout.id, transitions.next_step)
    assert (walked.step, walked.weight) == (1, 50)
    with pytest.raises(Conflict):
        await store.change(rollout.id, transitions.next_step)


async def test_a_shadow_has_no_weight(store: RolloutStore) -> None:
    plan = Plan("emotion", "2", "shadow", (100,), 0.0, Gates(), False)
    rollout = await store.start(plan)
    assert (await store.change(rollout.id, transitions.prepared)).weight == 0
    with pytest.raises(InvalidOption):
        await store.change(rollout.id, lambda r: transitions.set_weight(r, 5))


async def test_one_worker_carries_rollouts_out_until_it_is_gone(store: RolloutStore) -> None:
    claims = await asyncio.gather(*(store.claim(f"worker {i}", 1.0) for i in range(4)))
    assert sum(claims) == 1
    holder = f"worker {claims.index(True)}"
    assert await store.claim(holder, 0.2)
    assert not await store.claim("another", 0.2)
    await asyncio.sleep(0.3)
    assert await store.claim("another", 5.0)
    await store.release("another")
    assert await store.claim(holder, 5.0)


async def test_what_workers_report_comes_back(store: RolloutStore) -> None:
    rollout = await store.start(PLAN)
    window = Window(Side(3, 1, "why", (0.25, 0.5)), Side(), (0.75,), 1, 2)
    for _ in range(2):
        await store.report("one", 5, {"emotion": ["1"]}, {(rollout.id, 0): window})
    (report,) = await store.reports(within_s=10)
    assert (report.revision, report.in_use) == (5, {"emotion": ["1"]})
    assert report.window(rollout) == window
    await asyncio.sleep(0.05)
    assert await store.reports(within_s=0.01) == []
