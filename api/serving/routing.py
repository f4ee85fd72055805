"""Who is answered by which releases: the stable ones, or, by weight, a version on trial."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from api.errors import VoiceAnalyticsError
from api.repository import Manifest
from api.serving.models import ServedModels
from api.serving.trials import Copy, Recompute, Trial, TrialFigures, Trials


class Serving:
    """One per worker; `api.rollouts` tells it what the database says."""

    def __init__(self, stable: ServedModels, figures: TrialFigures) -> None:
        self.stable = stable
        self.trials = Trials(figures)
        self._figures = figures
        self._combined: dict[tuple[str, ...], ServedModels] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._withdrawn: set[tuple[str, str]] = set()

    def update(self, stable: Mapping[str, Manifest], trials: Mapping[str, Trial]) -> None:
        """From now on these answer. What is under way goes on as it began."""
        for model, trial in self.trials.current.items():
            if model not in trials and stable[model].version != trial.version:
                self._withdrawn.add((model, trial.version))
        offered = {(m, manifest.version) for m, manifest in stable.items()}
        self._withdrawn -= offered | {(t.model, t.version) for t in trials.values()}
        self._combined.clear()
        self.stable = self._combination(stable)
        self.trials.replace(trials)

    def choose(self, key: str) -> ServedModels:
        """The releases for whoever has this key: a recording's digest, a stream's id.

        The same key is answered by the same release as long as weights only grow.
        """
        manifests = dict(self.stable.manifests)
        for model, trial in self.trials.current.items():
            if self.trials.is_open(trial) and _percentile(key, trial) < trial.weight:
                manifests[model] = trial.candidate
        return self._combination(manifests)

    def is_stable(self, model: str, version: str) -> bool:
        """Whether this is what answers everybody who isn't part of a trial: a leaf's version, or
        the ensemble of such versions, which is named after them."""
        versions = self.stable.versions
        return versions.get(model) == version or model == self.stable.ensemble.name

    def fallback(self, served: ServedModels) -> ServedModels | None:
        """Who answers when these releases fail: the stable ones, unless these are they."""
        return self.stable if served.versions != self.stable.versions else None

    def current(self, served: ServedModels) -> ServedModels:
        """For a live stream: its releases, unless one of them was withdrawn meanwhile."""
        closed = {
            (t.model, t.version) for t in self.trials.current.values() if not self.trials.is_open(t)
        }
        gone = (closed | self._withdrawn) & set(served.versions.items())
        return self.stable if gone else served

    @contextlib.contextmanager
    def holding(self, served: ServedModels) -> Iterator[None]:
        """While the block lasts, these versions aren't unloaded."""
        held = list(served.versions.items())
        self._held.update(held)
        try:
            yield
        finally:
            self._held.subtract(held)

    def in_use(self) -> dict[str, list[str]]:
        """The versions that something is under way with, by the model's name."""
        found: dict[str, list[str]] = {}
        for (model, version), count in sorted(self._held.items()):
            if count > 0:
                found.setdefault(model, []).append(version)
        return found

    def called(self, model: str, version: str, seconds: float, was_answered: bool) -> None:
        """A call of a model came back, by whomever it was made."""
        self._figures.model_called(model, version, seconds, was_answered)
        if was_answered:
            self.trials.timed(model, version, seconds)

    def answered(
        self, served: ServedModels, outcomes: Mapping[str, Literal["hit", "miss"]]
    ) -> None:
        """Count an answer; `outcomes` says, by model, whether it was computed for it."""
        for model in served.versions.keys() & outcomes.keys():
            computed = outcomes[model] == "miss"
            self.trials.answered(model, served.version(model), computed=computed)

    def failed(self, served: ServedModels, error: VoiceAnalyticsError) -> None:
        """Count a failure that the stable releases did not share, against whom it concerns.

        A version that isn't loaded, for Triton was restarted, is not to blame: the controller
        loads it, or ends its rollout.
        """
        if error.details.get("status") in ("UNAVAILABLE", "NOT_FOUND"):
            return
        strange = [
            (model, version)
            for model, version in served.versions.items()
            if version != self.stable.version(model)
        ]
        blamed = [pair for pair in strange if pair[0] == error.details.get("model")]
        for model, version in blamed or strange:
            self.trials.failed(model, version, error)

    def saw(
        self, served: ServedModels, model: str, key: str, answer: Any, recompute: Recompute
    ) -> None:
        """A leaf gave a fresh answer; have the other version of a trial give one as well."""
        trial = self.trials.current.get(model)
        if trial is None or not self.trials.is_open(trial):
            return
        if _percentile(key, trial) >= trial.copies:
            return
        other = trial.candidate
        if served.version(model) == trial.version:
            other = self.stable.manifests[model]
        combined = self._combination({**served.manifests, model: other})
        self.trials.offer(Copy(trial, served, combined, answer, recompute))

    def _combination(self, manifests: Mapping[str, Manifest]) -> ServedModels:
        versions = tuple(manifest.version for _, manifest in sorted(manifests.items()))
        if versions not in self._combined:
            self._combined[versions] = ServedModels.of(manifests)
        return self._combined[versions]


def _percentile(key: str, trial: Trial) -> int:
    """Where a key stands among a hundred, anew for each rollout."""
    digest = hashlib.sha256(f"{trial.rollout_id}:{trial.model}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100
