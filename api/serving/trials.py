"""Versions on trial: what this worker has seen of each, and the copies that compare two versions.

A worker judges by itself after every answer: a version that breaks a gate here gets no more of this
worker's traffic at once, before anybody else has heard of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from api.cancelling import cancelled
from api.errors import VoiceAnalyticsError
from api.repository import Manifest
from api.serving import gates
from api.serving.agreement import agreement
from api.serving.gates import Breach, Gates, Window
from api.serving.models import ServedModels

log = structlog.get_logger(__name__)

WAITING_COPIES = 4
"""Of one worker; beyond it copies are dropped, and counted as that."""

COPY_TIMEOUT_S = 60.0

Recompute = Callable[[ServedModels], Awaitable[Any]]
"""Asks the same of other releases."""


class TrialFigures(Protocol):
    """Who counts; `api.metrics.Metrics` does."""

    def model_called(self, model: str, version: str, seconds: float, answered: bool) -> None: ...

    def model_answered(self, model: str, version: str) -> None: ...

    def model_failed(self, model: str, version: str) -> None: ...

    def versions_compared(self, model: str, version: str, agreement: float) -> None: ...

    def copy_dropped(self, model: str, version: str) -> None: ...


@dataclass(frozen=True)
class Trial:
    """A version on trial: `weight` is the share of traffic that it answers, in percent; `copies`
    the share of requests that are asked of both versions."""

    rollout_id: int
    step: int
    candidate: Manifest
    weight: int
    copies: int
    gates: Gates

    @property
    def model(self) -> str:
        return self.candidate.model

    @property
    def version(self) -> str:
        return self.candidate.version


@dataclass(frozen=True)
class Copy:
    """An answer that another version is to give as well."""

    trial: Trial
    served: ServedModels
    other: ServedModels
    answer: Any
    recompute: Recompute


class Trials:
    """The trials under way, by the model's name."""

    def __init__(self, figures: TrialFigures) -> None:
        self._figures = figures
        self._copies: asyncio.Queue[Copy] = asyncio.Queue(WAITING_COPIES)
        self.current: dict[str, Trial] = {}
        self.windows: dict[int, Window] = {}
        self.breaches: dict[int, Breach] = {}
        self.breached = asyncio.Event()

    def replace(self, trials: Mapping[str, Trial]) -> None:
        """Take what is on trial now; a new step begins a new window."""
        steps = {t.rollout_id: t.step for t in self.current.values()}
        kept = {t.rollout_id for t in trials.values() if steps.get(t.rollout_id, t.step) == t.step}
        self.current = dict(trials)
        ids = {t.rollout_id for t in trials.values()}
        self.windows = {i: self.windows[i] for i in kept & self.windows.keys()}
        self.breaches = {i: breach for i, breach in self.breaches.items() if i in ids}

    def is_open(self, trial: Trial) -> bool:
        """Whether the version on trial may still be given traffic by this worker."""
        return trial.rollout_id not in self.breaches

    def answered(self, model: str, version: str, *, computed: bool) -> None:
        """A request was answered; `computed` when the model was asked for it, not the cache."""
        self._figures.model_answered(model, version)
        if computed:
            self._count(model, version, gates.answered)

    def failed(self, model: str, version: str, error: Exception) -> None:
        self._figures.model_failed(model, version)
        self._count(model, version, lambda side: gates.failed(side, _cause(error)))

    def timed(self, model: str, version: str, seconds: float) -> None:
        """A call of the model itself came back."""
        self._count(model, version, lambda side: gates.timed(side, seconds))

    def offer(self, copy: Copy) -> None:
        """Compare later, if there is room; never waits."""
        try:
            self._copies.put_nowait(copy)
        except asyncio.QueueFull:
            self._update(copy.trial, lambda w: replace(w, dropped=w.dropped + 1))
            self._figures.copy_dropped(copy.trial.model, copy.trial.version)

    @contextlib.asynccontextmanager
    async def comparing(self) -> AsyncIterator[None]:
        """Work off copies, one at a time, until the block ends."""
        task = asyncio.create_task(self._compare_all(), name="version-comparison")
        try:
            yield
        finally:
            await cancelled(task)

    async def _compare_all(self) -> None:
        while True:
            copy = await self._copies.get()
            try:
                await asyncio.wait_for(self._compare(copy), COPY_TIMEOUT_S)
            except Exception as error:  # whatever an odd answer makes fail is the version's fault
                log.warning("copy_failed", model=copy.trial.model, reason=_cause(error))
                if copy.other.version(copy.trial.model) == copy.trial.version:
                    self.failed(copy.trial.model, copy.trial.version, error)

    async def _compare(self, copy: Copy) -> None:
        trial = copy.trial
        other = await copy.recompute(copy.other)
        pair = (copy.answer, other), (copy.served, copy.other)
        share = await asyncio.to_thread(agreement, trial.model, *pair)
        self._figures.versions_compared(trial.model, trial.version, share)
        self._update(trial, lambda window: gates.compared(window, share))
        if copy.other.version(trial.model) == trial.version:
            self._count(trial.model, trial.version, gates.answered)

    def _count(self, model: str, version: str, change: Callable[[gates.Side], gates.Side]) -> None:
        trial = self.current.get(model)
        if trial is None:
            return
        if version == trial.version:
            self._update(trial, lambda w: replace(w, candidate=change(w.candidate)))
        else:
            self._update(trial, lambda w: replace(w, stable=change(w.stable)))

    def _update(self, trial: Trial, change: Callable[[Window], Window]) -> None:
        now = self.current.get(trial.model)
        if now is None or (now.rollout_id, now.step) != (trial.rollout_id, trial.step):
            return  # what belongs to an earlier step came late
        window = self.windows[trial.rollout_id] = change(
            self.windows.get(trial.rollout_id, Window())
        )
        breach = gates.judge(window, trial.gates)
        if breach is not None and trial.rollout_id not in self.breaches:
            log.error(
                "version_breaks_gate", model=trial.model, version=trial.version, **vars(breach)
            )
            self.breaches[trial.rollout_id] = breach
            self.breached.set()


def _cause(error: Exception) -> str:
    """What went wrong, for people; a status tells a process that ended from one that is away."""
    if not isinstance(error, VoiceAnalyticsError):
        return type(error).__name__
    status = error.details.get("status")
    return f"{error.message} ({status})" if status else error.message
