"""Carries rollouts out: one worker at a time does, and whoever takes over goes on where it ended.

Each tick looks at what the database says and brings Triton and the rollouts one step further. All
steps may be repeated: nothing is remembered but in the database, the repository, and Triton.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import structlog

from api import model_config, repository
from api.errors import Conflict, ModelUnavailable, UnusableRelease
from api.pipeline import Pipeline
from api.repository import LEAVES
from api.rollouts import golden, transitions
from api.rollouts.loading import Loader
from api.rollouts.operations import Rollouts
from api.rollouts.store import Report
from api.rollouts.types import ON_TRIAL, Rollout, State
from api.serving import ServedModels
from api.serving.gates import judge, merged

log = structlog.get_logger(__name__)

REPORTS_WITHIN_S = 10.0
"""A worker that said nothing for so long is gone: each reports every second while a rollout is
under way."""

GRACE_S = 3.0
"""After a change every living worker has reported by then, and what it has under way is known."""


class Controller:
    """Needs nobody else's memory; see the module."""

    def __init__(
        self,
        rollouts: Rollouts,
        loader: Loader,
        pipeline: Pipeline,
        golden_folder: Path,
    ) -> None:
        """`pipeline` is one without a cache."""
        self._rollouts = rollouts
        self._store = rollouts.store
        self._folder = rollouts.folder
        self._loader = loader
        self._pipeline = pipeline
        self._golden_folder = golden_folder
        self._seen_at: tuple[int, float] = (0, 0.0)

    async def tick(self) -> None:
        """Bring everything one step further.

        Raises:
            StoreUnavailable, ModelUnavailable: the database or Triton is away; the next tick may
                do better.
        """
        state = await self._store.state()
        if state.revision != self._seen_at[0]:
            self._seen_at = (state.revision, time.monotonic())
        reports = await self._store.reports(REPORTS_WITHIN_S)
        if not await self._is_well(state):
            with contextlib.suppress(ModelUnavailable, UnusableRelease):  # gates are judged anyway
                await self._have(_wanted(state))
        for rollout in state.active:
            try:
                if rollout.status == "preparing":
                    await self._prepare(rollout, state)
                else:
                    await self._watch(rollout, state, reports)
            except Conflict:
                continue  # an operator was faster; the next tick sees what they did
        if state.retiring:
            await self._retire(state, reports)

    async def repair(self) -> None:
        """Load what should be loaded, after a Triton was restarted or another one joined.

        Raises:
            StoreUnavailable, ModelUnavailable: as `tick`.
        """
        await self._have(_wanted(await self._store.state()))

    async def _have(self, wanted: Mapping[str, Sequence[str]]) -> None:
        for model in LEAVES:
            await asyncio.to_thread(self._loader.add, model, wanted[model])
        await asyncio.to_thread(self._loader.pin, wanted)

    async def _prepare(self, rollout: Rollout, state: State) -> None:
        """Verify, load and try the version before it gets any traffic."""
        model, version = rollout.plan.model, rollout.plan.version
        gate = "files"
        try:
            stable = self._served({m: s.version for m, s in state.stable.items()})
            await asyncio.to_thread(repository.verify, self._folder, model, version)
            candidate = self._served({**stable.versions, model: version})
            gate = "load"
            wanted = _wanted(state)
            await asyncio.to_thread(self._loader.add, model, [*wanted[model], version])
            if rollout.plan.gates.golden:
                gate = "golden"
                recordings = await asyncio.to_thread(golden.read_folder, self._golden_folder)
                result = await golden.check(
                    self._pipeline, model, candidate, stable, recordings, rollout.plan.gates
                )
                await self._store.note(rollout.id, "golden", vars(result))
            gate = "load"
            both = {**wanted, model: [*wanted[model], version]}
            await asyncio.to_thread(self._loader.pin, both)
        except UnusableRelease as error:
            if not await self._is_well(state):
                raise ModelUnavailable("Triton is away or restarting") from error
            reason = error.message
            await self._rollouts.change(
                rollout.id, lambda r: transitions.fail(r, gate=gate, reason=reason)
            )
            return
        await self._rollouts.change(rollout.id, transitions.prepared)

    async def _watch(self, rollout: Rollout, state: State, reports: Sequence[Report]) -> None:
        """Judge a version on trial; let it walk on when it is well."""
        windows = [w for report in reports if (w := report.window(rollout)) is not None]
        window = merged(windows)
        breach = judge(window, rollout.plan.gates)
        if breach is not None:
            await self._rollouts.roll_back(rollout.id, breach.gate, breach.reason)
            return
        if not await self._keep_loaded(rollout, state):
            return
        if rollout.status != "running":
            return
        plan = rollout.plan
        asked = window.compared if plan.strategy == "shadow" else window.candidate.requests
        enough = plan.strategy == "blue_green" or asked >= plan.gates.min_requests
        elapsed_s = (datetime.now(timezone.utc) - rollout.step_at).total_seconds()
        if not enough or elapsed_s < plan.step_seconds:
            return
        if not rollout.is_last_step:
            await self._rollouts.change(rollout.id, transitions.next_step)
        elif plan.auto_promote:
            await self._rollouts.promote(rollout.id, "auto")

    async def _keep_loaded(self, rollout: Rollout, state: State) -> bool:
        """See to it that a version on trial is there; roll back when it can't be."""
        model, version = rollout.plan.model, rollout.plan.version
        gate = "files"
        try:
            repository.manifest(self._folder, model, version)
            gate = "load"
            wanted = _wanted(state)
            await asyncio.to_thread(self._loader.add, model, wanted[model])
            await asyncio.to_thread(self._loader.pin, wanted)
        except UnusableRelease as error:
            if not await self._is_well(state):
                raise ModelUnavailable("Triton is away or restarting") from error
            await self._rollouts.roll_back(rollout.id, gate, error.message)
            return False
        return True

    async def _retire(self, state: State, reports: Sequence[Report]) -> None:
        """Unload what serves no more, once nothing is under way with it."""
        stable = {model: s.version for model, s in state.stable.items()}
        file = model_config.establish(self._folder)
        model_config.write_serving(
            self._folder, model_config.ServingFile(file.repository_id, stable)
        )
        wanted, kept = _wanted(state), _kept(state, reports)
        await asyncio.to_thread(self._loader.pin, wanted)
        waited_s = time.monotonic() - self._seen_at[1]
        if waited_s < GRACE_S or any(r.revision < state.revision for r in reports):
            return
        await asyncio.to_thread(self._loader.unpin, kept)
        preparing = {r.plan.model for r in state.active if r.status == "preparing"}
        for model in LEAVES:
            if model not in preparing:
                await asyncio.to_thread(self._loader.load, model, kept[model])
        if {m: set(v) for m, v in kept.items()} == {m: set(v) for m, v in wanted.items()}:
            await self._store.settle(state.revision)
            log.info("rollouts_settled", versions={m: list(v) for m, v in wanted.items()})

    async def _is_well(self, state: State) -> bool:
        """Whether every Triton has all that is stable."""
        stable = {model: [s.version] for model, s in state.stable.items()}
        return await asyncio.to_thread(self._loader.are_ready, stable)

    def _served(self, versions: Mapping[str, str]) -> ServedModels:
        return served_models(self._folder, versions)


def served_models(folder: Path, versions: Mapping[str, str]) -> ServedModels:
    """These versions, as their manifests describe them.

    Raises:
        UnusableRelease: one isn't there, or its manifest lacks what an analysis needs.
    """
    manifests = {m: repository.manifest(folder, m, version) for m, version in versions.items()}
    try:
        return ServedModels.of(manifests)
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableRelease(f"A manifest lacks what an analysis needs: {error}") from error


def _wanted(state: State) -> dict[str, list[str]]:
    """What answers callers: the stable versions, and those on trial."""
    wanted = {model: [stable.version] for model, stable in state.stable.items()}
    for rollout in state.active:
        if rollout.status in ON_TRIAL:
            wanted[rollout.plan.model].append(rollout.plan.version)
    return wanted


def _kept(state: State, reports: Sequence[Report]) -> dict[str, list[str]]:
    """What stays loaded: what answers callers, and what something is still under way with."""
    kept = _wanted(state)
    for report in reports:
        for model, versions in report.in_use.items():
            kept[model] += [v for v in versions if v not in kept[model]]
    return kept
