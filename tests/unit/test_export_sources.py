"""What --checkpoint may name, and what is said when it can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import sources
from export.errors import CheckpointError
from export.types import MODEL_NAMES, ModelName

PROJECT_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no `.env` of the developer's reaches the test."""
    for name in ("WHISPER_MODEL", "EMOTION_MODEL", "SPEAKER_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_local_folder_is_named_after_itself_and_its_card_gives_the_licence(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "my-wav2vec2"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Mine\n")

    checkpoint = sources.resolve("emotion", str(folder))

    assert (checkpoint.name, checkpoint.license) == ("my-wav2vec2", "apache-2.0")
    assert checkpoint.path == folder and not checkpoint.bundled
    assert str(tmp_path) not in checkpoint.source, "manifests travel; folders of a machine don't"


@pytest.mark.parametrize("card", [None, "# No metadata\n", "---\ntags: [asr]\n---\n"])
def test_without_a_stated_licence_it_is_unknown(tmp_path: Path, card: str | None) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)

    assert sources.resolve("emotion", str(tmp_path)).license == "unknown"


def test_a_file_is_a_checkpoint_too(tmp_path: Path) -> None:
    weights = tmp_path / "medium.pt"
    weights.write_bytes(b"")

    checkpoint = sources.resolve("whisper", "medium.pt")

    assert (checkpoint.name, checkpoint.path) == ("medium.pt", weights)


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_the_bundled_folder_by_path_is_the_bundled_checkpoint(model: ModelName) -> None:
    by_name = sources.resolve(model, "bundled")

    assert by_name.bundled and by_name.name == "bundled"
    assert sources.resolve(model, str(sources.BUNDLED_DIR / model)) == by_name


@pytest.mark.parametrize(
    ("model", "wanted", "name"),
    [
        ("whisper", "hub", "openai/whisper-base"),
        ("whisper", "large-v3-turbo", "openai/whisper-large-v3-turbo"),
        ("whisper", "someone/whisper-finnish", "someone/whisper-finnish"),
        ("emotion", "hub", "superb/wav2vec2-base-superb-er"),
        ("speaker_embedding", "hub", "speechbrain/spkrec-ecapa-voxceleb"),
        ("emotion", "someone/model@a1b2c3", "someone/model@a1b2c3"),
    ],
)
def test_hub_names(model: ModelName, wanted: str, name: str) -> None:
    assert sources.hub_name(model, wanted) == name


def test_the_environment_chooses_the_hub_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_MODEL", "small.en")

    assert sources.hub_name("whisper", "hub") == "openai/whisper-small.en"


def test_so_does_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EMOTION_MODEL=someone/emotions\n")

    assert sources.hub_name("emotion", "hub") == "someone/emotions"


@pytest.mark.parametrize("wanted", ["bas", "no/such/folder", "./missing", ""])
def test_what_is_neither_path_nor_name_is_explained(wanted: str) -> None:
    with pytest.raises(CheckpointError, match=r"unknown checkpoint.*large-v3-turbo"):
        sources.resolve("whisper", wanted)


def test_one_weight_format_is_downloaded_safetensors_first() -> None:
    """openai/whisper-large-v3 holds its weights six times over, 30 GB in all."""
    both = ["config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"]
    shards = ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"]

    assert "model.safetensors" in sources.download_patterns("whisper", both)
    assert "pytorch_model.bin" not in sources.download_patterns("whisper", both)
    assert "pytorch_model-*.bin" in sources.download_patterns("emotion", shards)


def test_a_hub_out_of_reach_says_how_to_export_from_a_folder(tmp_path: Path) -> None:
    """Nothing listens on port 9 of this machine: the hub can't be reached, whatever the network."""
    pytest.importorskip("requests", reason="fetching needs the export environment")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "export", "emotion", "--checkpoint", "someone/model"),
            *("--repository", str(tmp_path / "models"), "--dry-run"),
        ],
        cwd=PROJECT_ROOT,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "hub can't be reached" in done.stderr
    assert "python -m export emotion --checkpoint PATH/TO/model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()
