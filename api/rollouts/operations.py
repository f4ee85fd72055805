"""What operators, gates and the controller do to rollouts; each change is logged and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from api import repository
from api.errors import Conflict, NotFound
from api.metrics import Metrics
from api.repository import LEAVES
from api.rollouts import transitions
from api.rollouts.store import RolloutStore
from api.rollouts.transitions import Change
from api.rollouts.types import Plan, Rollout
from api.serving.gates import Gates

log = structlog.get_logger(__name__)

OPERATOR = "operator"


class Rollouts:
    """One per worker. Every method raises `StoreUnavailable` when the database is away."""

    def __init__(self, store: RolloutStore, folder: Path, figures: Metrics) -> None:
        self.store = store
        self.folder = folder
        self._figures = figures

    async def start(self, plan: Plan) -> Rollout:
        """
        Raises:
            NotFound: there is no such model or version.
            Conflict: a rollout of the model is under way, or the version serves already.
        """
        self.check_model(plan.model)
        if plan.version not in repository.versions(self.folder, plan.model):
            raise NotFound(
                "The model has no such version",
                version=plan.version,
                versions=repository.versions(self.folder, plan.model),
            )
        rollout = await self.store.start(plan)
        log.info("rollout_created", id=rollout.id, model=plan.model, version=plan.version)
        return rollout

    async def change(
        self, rollout_id: int, transition: Callable[[Rollout], Change], revision: int | None = None
    ) -> Rollout:
        """
        Raises:
            NotFound: there is no such rollout.
            Conflict: it isn't what it was, or its status doesn't allow it.
        """
        made: list[Change] = []

        def remembered(before: Rollout) -> Change:
            made.append(transition(before))
            return made[-1]

        rollout = await self.store.change(rollout_id, remembered, expected_revision=revision)
        about = {**made[-1].detail, "model": rollout.plan.model, "version": rollout.plan.version}
        log.info(f"rollout_{made[-1].kind}", id=rollout.id, **about)
        if not rollout.is_active:
            gate = str(made[-1].detail.get("gate", made[-1].detail.get("by", "")))
            self._figures.rollout_ended(rollout.plan.model, rollout.status, gate)
        return rollout

    async def promote(self, rollout_id: int, by: str, revision: int | None = None) -> Rollout:
        """Raises as `change`."""
        return await self.change(rollout_id, lambda r: transitions.promote(r, by=by), revision)

    async def roll_back(
        self, rollout_id: int, gate: str, reason: str, revision: int | None = None
    ) -> Rollout:
        """Raises as `change`."""
        return await self.change(
            rollout_id, lambda r: transitions.roll_back(r, gate=gate, reason=reason), revision
        )

    async def go_back(self, rollout: Rollout, revision: int | None = None) -> Rollout:
        """End a rollout; or, when it was promoted, begin one that brings back what served before.

        Raises:
            NotFound: what served before isn't on disk any more.
            Conflict: it is over without having changed what serves, or another one is under way.
        """
        if rollout.status != "promoted":
            reason = "An operator rolled it back"
            return await self.roll_back(rollout.id, OPERATOR, reason, revision)
        serving = (await self.store.state()).stable[rollout.plan.model].version
        if serving != rollout.plan.version:
            raise Conflict("Another version serves by now", id=rollout.id, version=serving)
        back = Plan(
            model=rollout.plan.model,
            version=rollout.from_version,
            strategy="blue_green",
            steps=(),
            step_seconds=0.0,
            gates=Gates(p95_ratio=None, agreement=None),
            auto_promote=True,
        )
        return await self.start(back)

    def check_model(self, model: str) -> None:
        """
        Raises:
            NotFound: it isn't one of the models.
        """
        if model not in LEAVES:
            raise NotFound("There is no such model", model=model, models=list(LEAVES))
