"""poetry.lock is whole: what pyproject.toml asks for, from PyPI, each file with its hash."""

from __future__ import annotations

import re
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from api.settings import PROJECT_ROOT
from scripts.locked import packages, requirements, toml

PROJECT: dict[str, Any] = toml.loads((PROJECT_ROOT / "pyproject.toml").read_text())


def asked() -> list[Requirement]:
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("requirement", asked(), ids=str)
def test_what_is_asked_for_is_locked_in_a_version_that_fits(requirement: Requirement) -> None:
    versions = [
        Version(package["version"])
        for package in packages()
        if canonicalize_name(package["name"]) == canonicalize_name(requirement.name)
    ]
    assert versions, "poetry.lock doesn't know it: run poetry lock"
    assert [v for v in versions if not requirement.specifier.contains(v, prereleases=True)] == []


def test_every_file_has_its_hash_and_comes_from_pypi() -> None:
    """A package from a repository or an address would be whatever lies there today."""
    found = packages()
    assert len(found) > 100
    for package in found:
        assert "source" not in package, package["name"]
        assert package["files"], package["name"]
        for file in package["files"]:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), file


def test_the_lock_can_be_read_by_tools_that_know_requirements_only() -> None:
    lines = list(requirements())
    for line, package in zip(lines, packages(), strict=True):
        told, *hashes = line.split(" --hash=")
        requirement = Requirement(told)
        assert str(requirement.specifier) == f"=={package['version']}"
        assert len(hashes) == len(package["files"])


def test_the_images_install_what_is_locked() -> None:
    """Poetry installs by the lock alone, and refuses a file of another hash."""
    image = (PROJECT_ROOT / "deploy/docker/api.Dockerfile").read_text()
    assert "poetry.lock" in image and "poetry install --only main" in image
    for line in re.findall(r"pip install (.+)", image):
        assert re.fullmatch(r"--no-cache-dir poetry==[\d.]+", line), line
