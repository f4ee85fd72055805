"""The working model repository starts as a copy and never loses what was exported into it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from api import repository
from api.errors import ConfigurationError
from api.model_config import establish
from api.repository import manifest, newest, seed


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "committed"
    for model in repository.LEAVES:
        _release(folder / model / "1", bundled=True)
        (folder / model / "config.pbtxt").write_text(f'name: "{model}"\n')
    monkeypatch.setattr(repository, "COMMITTED_REPOSITORY", folder)
    return folder


def _release(folder: Path, *, bundled: bool, checkpoint: str = "bundled") -> None:
    folder.mkdir(parents=True)
    about = {"model": folder.parent.name, "version": folder.name}
    content = {**about, "checkpoint": checkpoint, "bundled": bundled}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_an_absent_repository_is_copied(committed: Path, tmp_path: Path) -> None:
    working = seed(tmp_path / "data" / "models")
    assert (working / "whisper" / "config.pbtxt").exists()
    assert [p.name for p in working.parent.iterdir()] == ["models"]


def test_an_exported_release_survives_a_second_start(committed: Path, tmp_path: Path) -> None:
    working = seed(tmp_path / "models")
    _release(working / "whisper" / "2", bundled=False, checkpoint="openai/whisper-base")
    assert manifest(seed(working), "whisper", "2").release.checkpoint == "openai/whisper-base"


def test_a_newer_bundled_release_replaces_the_old_one(committed: Path, tmp_path: Path) -> None:
    working = seed(tmp_path / "models")
    about = {"model": "emotion", "version": "1", "created": "later"}
    newer = {**about, "checkpoint": "bundled", "bundled": True}
    (committed / "emotion" / "1" / "manifest.json").write_text(json.dumps(newer))
    assert manifest(seed(working), "emotion", "1").content["created"] == "later"
    assert [p.name for p in (working / "emotion").iterdir() if p.is_dir()] == ["1"]


def test_the_newest_version_serves_at_the_very_first_start_only(
    committed: Path, tmp_path: Path
) -> None:
    """What an export adds later gets no traffic by itself, not even by a restart."""
    working = seed(tmp_path / "models")
    _release(working / "whisper" / "2", bundled=False)
    first = establish(working)
    _release(working / "whisper" / "3", bundled=False)
    assert establish(working) == first
    assert first.versions == {"whisper": "2", "emotion": "1", "speaker_embedding": "1"}


def test_a_model_without_a_release_says_how_to_export_one(committed: Path, tmp_path: Path) -> None:
    working = seed(tmp_path / "models")
    shutil.rmtree(working / "emotion" / "1")
    with pytest.raises(ConfigurationError, match=r"python -m export emotion"):
        newest(working)


def test_a_folder_that_cannot_be_written_is_a_clear_error(committed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="MODEL_REPOSITORY"):
        seed(tmp_path / "file" / "models")
