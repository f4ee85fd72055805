"""Every worker follows the database: who serves, who is on trial; and says what it sees of them.

While nothing is being rolled out that costs a worker one small query twice a second, and no write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import structlog

from api import repository
from api.cancelling import cancelled
from api.errors import Conflict, NotFound, StoreUnavailable, UnusableRelease, VoiceAnalyticsError
from api.metrics import Metrics
from api.repository import Manifest
from api.rollouts.controller import Controller
from api.rollouts.loading import Loader
from api.rollouts.operations import Rollouts
from api.rollouts.types import ON_TRIAL, Rollout, State
from api.serving import Serving
from api.serving.trials import Trial

log = structlog.get_logger(__name__)

POLL_S = 0.5
REPORT_S = 1.0
LEASE_S = 6.0
"""After a worker that carried rollouts out was killed, another one goes on within this time."""

READY_CHECK_S = 5.0
"""A Triton that was restarted has the stable versions; what it lacks beside them is loaded then."""


class Follower:
    """One per worker."""

    def __init__(
        self,
        rollouts: Rollouts,
        serving: Serving,
        controller: Controller,
        loader: Loader,
        figures: Metrics,
    ) -> None:
        self._rollouts = rollouts
        self._store = rollouts.store
        self._serving = serving
        self._controller = controller
        self._loader = loader
        self._figures = figures
        self._name = f"{socket.gethostname()[:20]}-{os.getpid()}-{uuid4().hex[:8]}"
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._reported_at = self._checked_at = self._claimed_at = 0.0
        self._was_away = False
        self.state: State | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow, compare and, when it is this worker's turn, carry rollouts out."""
        with contextlib.suppress(StoreUnavailable):  # said in the log; the loop tries again
            await self._look()
        tasks = [
            asyncio.create_task(self._repeat(self._look), name="rollouts-follow"),
            asyncio.create_task(self._repeat(self._lead), name="rollouts-lead"),
        ]
        async with self._serving.trials.comparing():
            try:
                yield
            finally:
                await cancelled(*tasks)
                if self.state is not None and not self.state.is_settled:
                    with contextlib.suppress(VoiceAnalyticsError):
                        await self._store.release(self._name)

    async def _repeat(self, work: object) -> None:
        assert callable(work)
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._serving.trials.breached.wait(), POLL_S)
            try:
                await work()
            except VoiceAnalyticsError as error:
                if not self._was_away:
                    log.warning("rollouts_wait", reason=error.message)
                self._was_away = True
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("rollouts_failed_unexpectedly")
                await asyncio.sleep(POLL_S)
            else:
                self._was_away = False

    async def _look(self) -> None:
        """Take over what the database says, and tell it what this worker sees."""
        trials = self._serving.trials
        trials.breached.clear()
        revision = await self._store.revision()
        changed = self.state is None or revision != self.state.revision
        if changed:
            self.state = await self._store.state()
            if not self.state.stable:  # the database came up after the service
                await self._store.ensure(self._serving.stable.versions)
                self.state = await self._store.state()
            self._take_over(self.state)
        assert self.state is not None
        for rollout in self.state.active:
            breach = trials.breaches.get(rollout.id)
            if breach is not None:
                with contextlib.suppress(Conflict, NotFound):
                    await self._rollouts.roll_back(rollout.id, breach.gate, breach.reason)
        due = time.monotonic() - self._reported_at > REPORT_S
        if not self.state.is_settled and (changed or due):
            await self._report(self.state)

    async def _report(self, state: State) -> None:
        trials = self._serving.trials
        steps = {t.rollout_id: t.step for t in trials.current.values()}
        windows = {(i, steps[i]): w for i, w in trials.windows.items() if i in steps}
        await self._store.report(self._name, state.revision, self._serving.in_use(), windows)
        self._reported_at = time.monotonic()

    def _take_over(self, state: State) -> None:
        stable = {m: self._manifest(m, s.version) for m, s in state.stable.items()}
        trials = {}
        for rollout in state.active:
            if rollout.status in ON_TRIAL:
                with contextlib.suppress(UnusableRelease):  # the controller rolls it back
                    trials[rollout.plan.model] = self._trial(rollout)
        self._serving.update(stable, trials)
        self._figures.describe_models(self._serving.stable.releases)
        weights = {(model, manifest.version): 100 for model, manifest in stable.items()}
        for model, trial in trials.items():
            weights[model, stable[model].version] = 100 - trial.weight
            weights[model, trial.version] = trial.weight
        self._figures.weigh_models(weights)

    def _trial(self, rollout: Rollout) -> Trial:
        plan = rollout.plan
        if plan.strategy == "shadow":
            copies = plan.steps[0]
        else:
            copies = 0 if plan.gates.agreement is None else rollout.weight
        return Trial(
            rollout_id=rollout.id,
            step=rollout.step,
            candidate=self._manifest(plan.model, plan.version),
            weight=rollout.weight,
            copies=copies,
            gates=plan.gates,
        )

    def _manifest(self, model: str, version: str) -> Manifest:
        """Releases never change: what was read once holds, even when the folder vanishes."""
        if (model, version) not in self._manifests:
            self._manifests[model, version] = repository.manifest(
                self._rollouts.folder, model, version
            )
        return self._manifests[model, version]

    async def _lead(self) -> None:
        """Carry rollouts out, if there is something to do and nobody else does it."""
        if self.state is None:
            return
        must_repair = self.state.is_settled and await self._is_incomplete()
        if self.state.is_settled and not must_repair:
            return
        if time.monotonic() - self._claimed_at > LEASE_S / 3 and not await self._claim():
            return
        renewing = asyncio.create_task(self._renew(), name="rollouts-lease")
        try:
            await (self._controller.repair() if must_repair else self._controller.tick())
        finally:
            await cancelled(renewing)

    async def _is_incomplete(self) -> bool:
        if time.monotonic() - self._checked_at < READY_CHECK_S:
            return False
        self._checked_at = time.monotonic()
        wanted = {m: [version] for m, version in self._serving.stable.versions.items()}
        return not await asyncio.to_thread(self._loader.are_ready, wanted)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            await self._claim()

    async def _claim(self) -> bool:
        asked_at = time.monotonic()
        is_ours = await self._store.claim(self._name, LEASE_S)
        self._claimed_at = asked_at if is_ours else 0.0
        return is_ours
