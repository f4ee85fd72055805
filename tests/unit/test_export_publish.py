"""Version folders appear whole or not at all, and never change."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import publish
from export.errors import OptionError, VersionExistsError


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def stage_and_publish(repository: Path, version: int, text: str, replace: bool = False) -> None:
    with publish.staging_folder(repository) as staging:
        (staging / "model.onnx").write_text(text)
        publish.publish(staging, repository / "emotion" / str(version), replace)


def test_an_absent_repository_starts_as_a_copy_of_the_committed_one(tmp_path: Path) -> None:
    repository = tmp_path / "data" / "models"

    assert publish.seed(repository)

    committed = files(publish.COMMITTED_REPOSITORY)
    assert files(repository) == {name for name in committed if "__pycache__" not in name}
    assert [path.name for path in repository.parent.iterdir()] == ["models"]


def test_a_repository_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")

    assert not publish.seed(tmp_path)
    assert files(tmp_path) == {"mine"}


def test_versions_count_as_numbers_and_ignore_all_else(tmp_path: Path) -> None:
    for name in ("2", "10", "1", "draft"):
        (tmp_path / "emotion" / name).mkdir(parents=True)
    (tmp_path / "emotion" / "3").write_text("a file")

    assert publish.versions(tmp_path, "emotion") == [1, 2, 10]
    assert publish.choose_version(tmp_path, "emotion", None) == 11
    assert publish.choose_version(tmp_path, "emotion", 7) == 7


def test_the_first_version_is_1(tmp_path: Path) -> None:
    assert publish.choose_version(tmp_path, "whisper", None) == 1


def test_a_taken_version_is_refused_and_the_next_named(tmp_path: Path) -> None:
    (tmp_path / "emotion" / "4").mkdir(parents=True)

    with pytest.raises(VersionExistsError, match="version 5"):
        publish.choose_version(tmp_path, "emotion", 4)
    assert publish.choose_version(tmp_path, "emotion", 4, replace=True) == 4


def test_version_0_is_refused(tmp_path: Path) -> None:
    """Triton loads no version 0; the folder would lie there and never serve."""
    with pytest.raises(OptionError):
        publish.choose_version(tmp_path, "emotion", 0)


def test_a_published_version_holds_what_was_staged_and_nothing_else_is_left(tmp_path: Path) -> None:
    stage_and_publish(tmp_path, 1, "graph")

    assert files(tmp_path) == {"emotion/1/model.onnx"}
    assert [path.name for path in tmp_path.iterdir()] == ["emotion"]


def test_a_failure_while_staging_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), publish.staging_folder(tmp_path) as staging:
        (staging / "model.onnx").write_text("half")
        raise RuntimeError("the export fails")

    assert list(tmp_path.iterdir()) == []


def test_two_exports_of_one_version_dont_mix(tmp_path: Path) -> None:
    """The later one fails and leaves the earlier one's files as they are."""
    stage_and_publish(tmp_path, 1, "first")

    with pytest.raises(VersionExistsError, match="meanwhile"):
        stage_and_publish(tmp_path, 1, "second")

    assert (tmp_path / "emotion" / "1" / "model.onnx").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["emotion"]


def test_replace_overwrites_a_version(tmp_path: Path) -> None:
    stage_and_publish(tmp_path, 1, "first")
    (tmp_path / "emotion" / "1" / "leftover").write_text("of the first")

    stage_and_publish(tmp_path, 1, "second", replace=True)

    assert (tmp_path / "emotion" / "1" / "model.onnx").read_text() == "second"
    assert files(tmp_path) == {"emotion/1/model.onnx"}
