"""Triton's side of a rollout: which versions are loaded, and the ensembles that pin them.

Works the same for the embedded Triton and for one (or several behind one name) that runs elsewhere
with explicit model control over the same repository folder. Every step may be repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from api import model_config
from api.errors import UnusableRelease, VoiceAnalyticsError
from api.repository import ENSEMBLE, LEAVES, ensemble_name
from api.triton import TritonControl, servers

log = structlog.get_logger(__name__)

Wanted = Mapping[str, Sequence[str]]
"""Versions of each leaf that are to be loaded; the stable one comes first."""


class Loader:
    """One per process; its methods block, so they belong into threads."""

    def __init__(self, repository: Path, triton_url: str) -> None:
        self._repository = repository
        self._url = triton_url

    def add(self, model: str, versions: Sequence[str]) -> None:
        """Have these versions of a leaf loaded, beside those that are. Raises as `load`."""
        named = model_config.named_versions(self._repository, model)
        present = [v for v in named if v not in versions and self.is_ready(model, v)]
        self.load(model, [*versions, *present])

    def load(self, model: str, versions: Sequence[str]) -> None:
        """Have exactly these versions of a leaf loaded.

        Raises:
            UnusableRelease: one can't be loaded; nothing has changed then.
            ModelUnavailable: Triton is away.
        """
        path = self._repository / model / model_config.CONFIG
        before = path.read_text()
        changed = model_config.set_versions(self._repository, model, versions)
        with self._controls() as controls:
            try:
                for control in controls:
                    if changed or control.versions(model) != set(versions):
                        control.load(model)
                    if not all(control.is_ready(model, v) for v in versions):
                        raise UnusableRelease(
                            "Triton loaded it, and it isn't ready", model=model, versions=versions
                        )
            except VoiceAnalyticsError:
                if changed:
                    model_config.restore(path, before)
                raise

    def pin(self, wanted: Wanted) -> None:
        """Have an ensemble for each combination of these versions, and for no other.

        Raises:
            UnusableRelease, ModelUnavailable: as `load`.
        """
        names = {}
        for combination in itertools.product(*(wanted[model] for model in LEAVES)):
            pins = dict(zip(LEAVES, combination, strict=True))
            names[ensemble_name(pins)] = pins
        stable = {model: wanted[model][0] for model in LEAVES}
        with self._controls() as controls:
            for name, pins in {**names, ENSEMBLE: stable}.items():
                changed = model_config.pin_ensemble(self._repository, name, pins)
                for control in controls:
                    if changed or not control.is_ready(name):
                        control.load(name)

    def unpin(self, wanted: Wanted) -> None:
        """Do away with the ensembles of other combinations: before their leaves are unloaded."""
        names = {
            ensemble_name(dict(zip(LEAVES, combination, strict=True)))
            for combination in itertools.product(*(wanted[model] for model in LEAVES))
        }
        with self._controls() as controls:
            for control in controls:
                for name in control.loaded(f"{ENSEMBLE}_"):
                    if name not in names:
                        control.unload(name)
        for name in model_config.pinned_ensembles(self._repository):
            if name not in names:
                model_config.remove_ensemble(self._repository, name)

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a version of a leaf is ready everywhere."""
        with self._controls() as controls:
            return all(control.is_ready(model, version) for control in controls)

    def are_ready(self, wanted: Wanted) -> bool:
        """Whether every one of these versions, and every ensemble of them, is ready everywhere."""
        with self._controls() as controls:
            leaves = all(
                control.is_ready(model, version)
                for control in controls
                for model in LEAVES
                for version in wanted[model]
            )
            return leaves and all(
                control.is_ready(ensemble_name(dict(zip(LEAVES, combination, strict=True))))
                for control in controls
                for combination in itertools.product(*(wanted[model] for model in LEAVES))
            )

    @contextmanager
    def _controls(self) -> Iterator[list[TritonControl]]:
        with ExitStack() as stack:
            yield [stack.enter_context(TritonControl(url)) for url in servers(self._url)]
