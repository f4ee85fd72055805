"""The parts of a working repository that change while it serves: which versions Triton loads, and
the ensembles that pin them.

`version_policy` of a leaf names the versions that are loaded, so that a version folder that appears
gets nothing by itself. A live utterance goes through an ensemble, and an ensemble has one
configuration for all of its versions: so there is one ensemble for each combination of versions
that serves, `voice_analytics_<whisper>_<emotion>_<speaker_embedding>`, whose steps are pinned to
them. `voice_analytics` itself, for whoever asks Triton directly, is pinned to the stable versions.

Every file is replaced in one step; Triton looks at them when it is told to load.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from api.errors import ConfigurationError
from api.repository import ENSEMBLE, LEAVES, ensemble_name, newest

CONFIG = "config.pbtxt"
SERVING = "serving.json"
"""In the repository: its name, and the versions that serve, for whoever starts without the
database."""

_POLICY = re.compile(r"^version_policy\s*:?\s*\{", re.MULTILINE)
_STEP = re.compile(r'(model_name:\s*"(\w+)"\s+model_version:\s*)-?\d+')
_NAME = re.compile(r'^name:\s*"[^"]*"', re.MULTILINE)


@dataclass(frozen=True)
class ServingFile:
    """A repository's own name, under which the database knows it, and its stable versions."""

    repository_id: str
    versions: Mapping[str, str]


def read_serving(repository: Path) -> ServingFile | None:
    """What was written last; None when nothing was, or it can't be read."""
    try:
        content = json.loads((repository / SERVING).read_text())
        versions = {model: str(content["versions"][model]) for model in LEAVES}
        return ServingFile(str(content["repository_id"]), versions)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def establish(repository: Path) -> ServingFile:
    """What serves from a repository; at its very first start that is the newest of each model.

    Raises:
        ConfigurationError: a model has no release, or the repository can't be written.
    """
    serving = read_serving(repository)
    if serving is None:
        staging = repository / f".{SERVING}.{uuid4().hex[:8]}"
        try:
            staging.write_text(_as_text(ServingFile(uuid4().hex, newest(repository))))
            try:
                with contextlib.suppress(FileExistsError):  # another process was first
                    os.link(staging, repository / SERVING)
            finally:
                staging.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"The model repository {repository} can't be written: {error}"
            ) from error
        serving = read_serving(repository)
        if serving is None:
            raise ConfigurationError(f"{repository / SERVING} can't be read; remove it")
    return serving


def write_serving(repository: Path, serving: ServingFile) -> None:
    if read_serving(repository) != serving:
        _replace(repository / SERVING, _as_text(serving))


def _as_text(serving: ServingFile) -> str:
    content = {"repository_id": serving.repository_id, "versions": dict(serving.versions)}
    return json.dumps(content, indent=2) + "\n"


def set_versions(repository: Path, model: str, versions: Sequence[str]) -> bool:
    """Let Triton load exactly these versions of a leaf; whether that is a change.

    Their Python is compiled before Triton sees it. What a model's process compiles by itself it
    writes into the version's folder, and Triton, who takes that for another release, would load
    this version anew beside the next one.
    """
    for version in versions:
        compileall.compile_dir(repository / model / version, maxlevels=0, quiet=2)
    path = repository / model / CONFIG
    before = path.read_text()
    policy = (
        "version_policy {\n  specific {\n    versions: [ "
        + ", ".join(sorted(set(versions), key=int))
        + " ]\n  }\n}\n"
    )
    return _replace_if_changed(path, before, _without_policy(before) + policy)


def named_versions(repository: Path, model: str) -> list[str]:
    """The versions of a leaf that Triton was let load; none where its policy names none."""
    config = (repository / model / CONFIG).read_text()
    found = _POLICY.search(config)
    specific = re.search(r"versions:\s*\[([^\]]*)\]", config[found.end() :]) if found else None
    return re.findall(r"\d+", specific[1]) if specific else []


def pin_ensemble(repository: Path, name: str, versions: Mapping[str, str]) -> bool:
    """Write an ensemble whose steps are pinned to these versions; whether that is a change."""
    template = (repository / ENSEMBLE / CONFIG).read_text()
    pinned = _STEP.sub(lambda step: str(step[1]) + versions[step[2]], template)
    pinned = _NAME.sub(f'name: "{name}"', pinned, count=1)
    folder = repository / name
    (folder / "1").mkdir(parents=True, exist_ok=True)  # Triton wants a version, be it empty
    path = folder / CONFIG
    return _replace_if_changed(path, path.read_text() if path.exists() else "", pinned)


def pinned_ensembles(repository: Path) -> list[str]:
    """The names of the ensembles that were written for combinations of versions."""
    return sorted(p.name for p in repository.glob(f"{ENSEMBLE}_*") if p.is_dir())


def remove_ensemble(repository: Path, name: str) -> None:
    shutil.rmtree(repository / name, ignore_errors=True)


def serve_only(repository: Path, stable: Mapping[str, str]) -> str:
    """Let Triton load the stable versions and nothing else; the name of their ensemble."""
    for model in LEAVES:
        set_versions(repository, model, [stable[model]])
    name = ensemble_name(stable)
    pin_ensemble(repository, ENSEMBLE, stable)
    pin_ensemble(repository, name, stable)
    for other in pinned_ensembles(repository):
        if other != name:
            remove_ensemble(repository, other)
    return name


def restore(path: Path, content: str) -> None:
    """Take a change of a configuration back."""
    _replace(path, content)


def _without_policy(config: str) -> str:
    found = _POLICY.search(config)
    if found is None:
        return config
    depth, end = 1, found.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(config[end], 0)
        end += 1
    return config[: found.start()] + config[end:].lstrip("\n")


def _replace_if_changed(path: Path, before: str, after: str) -> bool:
    if before == after:
        return False
    _replace(path, after)
    return True


def _replace(path: Path, content: str) -> None:
    staging = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    staging.write_text(content)
    os.replace(staging, path)
