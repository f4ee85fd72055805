"""Rollouts in the database: every change in one transaction, one after the other.

Each transaction that changes something first counts up the repository's revision, which also makes
it wait for its turn; so whoever polls the revision misses nothing, and two operators never see half
of each other's change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from api.errors import Conflict, NotFound
from api.rollouts.transitions import Change
from api.rollouts.types import ACTIVE, Event, Plan, Rollout, Stable, State
from api.serving.gates import Gates, Window
from api.store.database import Database
from api.store.tables import (
    rollout_control,
    rollout_events,
    rollout_workers,
    rollouts,
    stable_versions,
)

_WINDOWS = TypeAdapter(dict[int, Window])
_LISTED = 100


@dataclass(frozen=True)
class Report:
    """What a worker says: the revision it acts by, the versions it has work under way with, and
    its windows by rollout."""

    worker: str
    at: datetime
    revision: int
    in_use: Mapping[str, list[str]]
    windows: Mapping[str, Any]

    def window(self, rollout: Rollout) -> Window | None:
        """Its window of a rollout's present step."""
        content = self.windows.get(f"{rollout.id}:{rollout.step}")
        return (
            None if content is None else _WINDOWS.validate_python({rollout.id: content})[rollout.id]
        )


class RolloutStore:
    """One repository's; every method raises `StoreUnavailable` when the database is away."""

    def __init__(self, database: Database, repository: str) -> None:
        self._database = database
        self._repository = repository
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    async def ensure(self, versions: Mapping[str, str]) -> None:
        """Take these as the stable versions of models that have none yet."""
        now = _now()
        control = {"repository": self._repository, "revision": 1, "retiring": False}
        rows = [
            {"repository": self._repository, "model": model, "version": version, "since": now}
            for model, version in versions.items()
        ]

        def insert(connection: sa.Connection) -> None:
            connection.execute(self._insert(rollout_control).on_conflict_do_nothing(), [control])
            connection.execute(self._insert(stable_versions).on_conflict_do_nothing(), rows)

        await self._database.write(insert)

    async def revision(self) -> int:
        """Cheap: every worker asks twice a second."""
        query = sa.select(rollout_control.c.revision).where(self._own(rollout_control))
        return await self._database.read(lambda c: c.scalar(query) or 0)

    async def state(self) -> State:
        return await self._database.read(self._state)

    async def of_model(self, model: str) -> list[Rollout]:
        """A model's rollouts, newest first."""
        query = (
            sa.select(rollouts)
            .where(self._own(rollouts), rollouts.c.model == model)
            .order_by(rollouts.c.id.desc())
            .limit(_LISTED)
        )
        rows = await self._database.read(lambda c: c.execute(query).mappings().all())
        return [_rollout(row) for row in rows]

    async def get(self, model: str, rollout_id: int) -> Rollout:
        """
        Raises:
            NotFound: the model has no such rollout.
        """
        return await self._database.read(lambda c: self._one(c, rollout_id, model))

    async def events(self, rollout_id: int) -> list[Event]:
        """What happened to a rollout, in order."""
        query = (
            sa.select(rollout_events)
            .where(rollout_events.c.rollout_id == rollout_id)
            .order_by(rollout_events.c.id)
        )
        rows = await self._database.read(lambda c: c.execute(query).mappings().all())
        return [Event(row["at"], row["kind"], row["detail"]) for row in rows]

    async def start(self, plan: Plan) -> Rollout:
        """
        Raises:
            Conflict: a rollout of the model is active already, or the version serves.
        """

        def insert(connection: sa.Connection) -> Rollout:
            self._count_up(connection)
            serving = self._state(connection).stable[plan.model].version
            if serving == plan.version:
                raise Conflict("This version serves already", model=plan.model, version=serving)
            row = self._new_row(plan, serving)
            rollout_id = connection.execute(sa.insert(rollouts).values(row)).inserted_primary_key
            assert rollout_id is not None  # every insert of one row has one
            self._tell(connection, rollout_id[0], "created", {"from_version": serving})
            return self._one(connection, rollout_id[0])

        try:
            return await self._database.write(insert)
        except IntegrityError as error:
            raise Conflict(
                "A rollout of this model is under way already", model=plan.model
            ) from error

    async def change(
        self,
        rollout_id: int,
        transition: Callable[[Rollout], Change],
        *,
        expected_revision: int | None = None,
    ) -> Rollout:
        """Carry out a transition on the rollout as it is now.

        Raises:
            NotFound: there is no such rollout.
            Conflict: it changed since `expected_revision`, or its status doesn't allow it.
        """

        def update(connection: sa.Connection) -> Rollout:
            self._count_up(connection)
            before = self._one(connection, rollout_id)
            if expected_revision is not None and before.revision != expected_revision:
                raise Conflict(
                    "The rollout was changed meanwhile",
                    id=rollout_id,
                    revision=before.revision,
                    expected=expected_revision,
                )
            change, now = transition(before), _now()
            values = {**change.values, "revision": before.revision + 1, "updated_at": now}
            if change.begins_step:
                values["step_at"] = now
            if values.get("status", before.status) not in ACTIVE:
                values["active_slot"] = None
                self._retire(connection)
            connection.execute(
                sa.update(rollouts).where(rollouts.c.id == rollout_id).values(values)
            )
            if change.promotes:
                self._promote(connection, before.plan, now)
            self._tell(connection, rollout_id, change.kind, change.detail)
            return self._one(connection, rollout_id)

        return await self._database.write(update)

    async def note(self, rollout_id: int, kind: str, detail: Mapping[str, Any]) -> None:
        """Write an event that changes nothing."""
        await self._database.write(lambda c: self._tell(c, rollout_id, kind, detail))

    async def settle(self, revision: int) -> None:
        """All that was to be unloaded is, unless something changed since that revision."""
        query = (
            sa.update(rollout_control)
            .where(self._own(rollout_control), rollout_control.c.revision == revision)
            .values(retiring=False, revision=revision + 1)
        )
        await self._database.write(lambda c: c.execute(query))

    async def claim(self, holder: str, ttl_s: float) -> bool:
        """Be the one who carries rollouts out, for so long; whoever is already stays it."""
        now = _now()
        control = rollout_control.c
        query = (
            sa.update(rollout_control)
            .where(
                self._own(rollout_control),
                sa.or_(
                    control.holder.is_(None),
                    control.holder == holder,
                    control.held_until < now,
                ),
            )
            .values(holder=holder, held_until=now + timedelta(seconds=ttl_s))
        )
        return await self._database.write(lambda c: c.execute(query).rowcount) == 1

    async def release(self, holder: str) -> None:
        """Let another do it, at once."""
        query = (
            sa.update(rollout_control)
            .where(self._own(rollout_control), rollout_control.c.holder == holder)
            .values(holder=None, held_until=None)
        )
        await self._database.write(lambda c: c.execute(query))

    async def report(
        self,
        worker: str,
        revision: int,
        in_use: Mapping[str, list[str]],
        windows: Mapping[tuple[int, int], Window],
    ) -> None:
        """Say what this worker does; `windows` by rollout and step."""
        content = {
            "at": _now(),
            "revision": revision,
            "in_use": dict(in_use),
            "windows": {f"{i}:{step}": asdict(w) for (i, step), w in windows.items()},
        }
        key = {"repository": self._repository, "worker": worker}
        query = (
            self._insert(rollout_workers)
            .values({**key, **content})
            .on_conflict_do_update(index_elements=list(key), set_=content)
        )
        await self._database.write(lambda c: c.execute(query))

    async def reports(self, within_s: float) -> list[Report]:
        """Of the workers that reported lately; what is far older is forgotten."""
        now = _now()
        fresh = rollout_workers.c.at > now - timedelta(seconds=within_s)
        stale = rollout_workers.c.at < now - timedelta(hours=1)
        mine = self._own(rollout_workers)

        def read(connection: sa.Connection) -> Any:
            connection.execute(sa.delete(rollout_workers).where(mine, stale))
            return (
                connection.execute(sa.select(rollout_workers).where(mine, fresh)).mappings().all()
            )

        rows = await self._database.write(read)
        names = ("worker", "at", "revision", "in_use", "windows")
        return [Report(*(row[name] for name in names)) for row in rows]

    def _own(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.repository == self._repository

    def _state(self, connection: sa.Connection) -> State:
        query = sa.select(rollout_control).where(self._own(rollout_control))
        control = connection.execute(query).mappings().first()
        serving = connection.execute(sa.select(stable_versions).where(self._own(stable_versions)))
        active = sa.select(rollouts).where(self._own(rollouts), rollouts.c.active_slot.is_not(None))
        return State(
            revision=control["revision"] if control else 0,
            retiring=bool(control and control["retiring"]),
            stable={
                row["model"]: Stable(row["model"], row["version"], row["since"])
                for row in serving.mappings()
            },
            active=tuple(_rollout(row) for row in connection.execute(active).mappings()),
        )

    def _one(self, connection: sa.Connection, rollout_id: int, model: str | None = None) -> Rollout:
        query = sa.select(rollouts).where(self._own(rollouts), rollouts.c.id == rollout_id)
        row = connection.execute(query).mappings().first()
        if row is None or model not in (None, row["model"]):
            raise NotFound("There is no rollout by that id", id=rollout_id)
        return _rollout(row)

    def _count_up(self, connection: sa.Connection) -> None:
        counted = rollout_control.c.revision + 1
        connection.execute(
            sa.update(rollout_control).where(self._own(rollout_control)).values(revision=counted)
        )

    def _retire(self, connection: sa.Connection) -> None:
        connection.execute(
            sa.update(rollout_control).where(self._own(rollout_control)).values(retiring=True)
        )

    def _promote(self, connection: sa.Connection, plan: Plan, now: datetime) -> None:
        connection.execute(
            sa.update(stable_versions)
            .where(self._own(stable_versions), stable_versions.c.model == plan.model)
            .values(version=plan.version, since=now)
        )

    def _tell(
        self, connection: sa.Connection, rollout_id: int, kind: str, detail: Mapping[str, Any]
    ) -> None:
        row = {"rollout_id": rollout_id, "at": _now(), "kind": kind, "detail": dict(detail)}
        connection.execute(sa.insert(rollout_events).values(row))

    def _new_row(self, plan: Plan, serving: str) -> dict[str, Any]:
        now = _now()
        return {
            "repository": self._repository,
            "model": plan.model,
            "version": plan.version,
            "from_version": serving,
            "strategy": plan.strategy,
            "steps": list(plan.steps),
            "step_seconds": plan.step_seconds,
            "gates": asdict(plan.gates),
            "auto_promote": plan.auto_promote,
            "status": "preparing",
            "step": 0,
            "weight": 0,
            "revision": 1,
            "created_at": now,
            "updated_at": now,
            "step_at": now,
            "active_slot": f"{self._repository} {plan.model}",
        }


def _rollout(row: Mapping[Any, Any]) -> Rollout:
    plan = Plan(
        model=row["model"],
        version=row["version"],
        strategy=row["strategy"],
        steps=tuple(row["steps"]),
        step_seconds=row["step_seconds"],
        gates=Gates(**row["gates"]),
        auto_promote=row["auto_promote"],
    )
    same = ("id", "from_version", "status", "reason", "step", "weight", "revision")
    times = ("created_at", "updated_at", "step_at")
    return Rollout(plan=plan, **{name: row[name] for name in (*same, *times)})


def _now() -> datetime:
    return datetime.now(timezone.utc)
