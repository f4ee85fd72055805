"""manifest.json: what it says of a version, and how it gives away a changed file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from export import manifest
from export.errors import ManifestError
from export.types import Checkpoint, ExportOptions, ModelFacts

CHECKPOINT = Checkpoint("superb/tiny", Path("unused"), False, "mit", "hub, revision 1")
FACTS = ModelFacts(
    facts={"labels": ["happy", "sad"], "window_s": 2.0},
    parity={"min_cosine": 1.0},
    opset=18,
    options={"normalize": True},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "words.json").write_text("{}")
    content = manifest.build("emotion", 3, CHECKPOINT, ExportOptions(), FACTS, tmp_path)
    manifest.write(tmp_path, content)
    return tmp_path


def test_it_names_source_licence_options_facts_and_tools(folder: Path) -> None:
    content = manifest.read(folder)

    assert {key: content[key] for key in ("model", "version", "checkpoint", "bundled")} == {
        "model": "emotion",
        "version": "3",
        "checkpoint": "superb/tiny",
        "bundled": False,
    }
    assert (content["license"], content["source"]) == ("mit", "hub, revision 1")
    assert (content["precision"], content["target"], content["opset"]) == ("fp32", "embedded", 18)
    assert (content["labels"], content["window_s"]) == (["happy", "sad"], 2.0)
    assert content["options"] == {"normalize": True}
    assert content["parity"] == {"min_cosine": 1.0}
    assert {"python", "onnxruntime"} <= content["tools"].keys()


def test_every_file_is_there_by_hash_and_size(folder: Path) -> None:
    assert manifest.read(folder)["files"] == {
        "model.onnx": {"sha256": hashlib.sha256(b"graph").hexdigest(), "size_bytes": 5},
        "tables/words.json": {"sha256": hashlib.sha256(b"{}").hexdigest(), "size_bytes": 2},
    }


def test_a_released_version_has_no_differences(folder: Path) -> None:
    assert manifest.differences(folder) == []


def test_plans_and_byte_code_are_not_part_of_a_release(folder: Path) -> None:
    """TensorRT plans are built where they run, and Triton leaves byte code: neither is a change."""
    (folder / "model.plan").write_bytes(b"plan")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"code")

    assert manifest.differences(folder) == []


def test_changed_missing_and_added_files_are_told(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"grapH")
    (folder / "tables" / "words.json").unlink()
    (folder / "notes.txt").write_text("new")

    assert manifest.differences(folder) == [
        "tables/words.json is missing",
        "notes.txt is not in the manifest",
        "model.onnx was changed",
    ]


def test_refresh_takes_the_present_files_and_keeps_the_rest(folder: Path) -> None:
    before = manifest.read(folder)
    (folder / "model.onnx").write_bytes(b"better graph")

    manifest.refresh(folder)

    after = manifest.read(folder)
    assert manifest.differences(folder) == []
    assert after["files"]["model.onnx"]["size_bytes"] == 12
    assert {**after, "files": None} == {**before, "files": None}


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"model": "emotion"})])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / manifest.FILENAME).write_text(text)

    with pytest.raises(ManifestError):
        manifest.read(tmp_path)
