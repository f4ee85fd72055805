"""Speech out of free games: what is speech is found in each game's own files."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from export.parity import sample_audio
from export.training import game_speech

RATE = 16_000
WORD = np.pad(np.concatenate(sample_audio()[:2]), 8_000)
HISS = np.random.default_rng(0).normal(0, 0.05, RATE).astype(np.float32)


def encoded(audio: NDArray[np.float32], form: str = "OGG") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, RATE, format=form)
    return file.getvalue()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def resource_file(files: dict[str, bytes]) -> bytes:
    """As ScummVM repacks the Amazon Queen's."""
    start = 15 + 21 * len(files)
    table, body = b"QTBLCEM10\0\0\0\1" + struct.pack(">H", len(files)), b""
    for name, content in files.items():
        table += struct.pack(">12sBII", name.encode(), 1, start + len(body), len(content))
        body += content
    return table + body


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A recording of each kind in each package, and some that must not be taken."""
    word, hiss = encoded(WORD), encoded(HISS)
    root = tmp_path / "packages"
    stamps = root / "tuxpaint-stamps-default/usr/share/stamps"
    for number in range(3):
        put(stamps / f"animal{number}_desc_ca.ogg", word)
    put(stamps / "animal0_desc.ogg", word)
    put(stamps / "animal0.ogg", word)
    queen = {"01P2.SB": encoded(WORD, "MP3"), "02J.SB": encoded(HISS, "MP3"), "ROOM.ACT": b"not"}
    put(root / "flight-of-the-amazon-queen/usr/queen.1c", resource_file(queen))
    put(root / "fillets-ng-data-cs/usr/sound/airplane/cs/fish.ogg", word)
    put(root / "fillets-ng-data-cs/usr/music/menu.ogg", word)
    put(root / "hedgewars-data/Data/Sounds/voices/Pirate/Hello.ogg", word)
    put(root / "hedgewars-data/Data/Sounds/voices/Pirate/Ouch.ogg", hiss)
    soldiers = {"audio/voice/latin/yes.ogg": word, "audio/music/drums.ogg": word}
    put(root / "0ad-data/mods/public/public.zip", zipped(soldiers))
    return root


def test_people_and_clips_are_found(
    packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(game_speech, "_FEWEST_OF_A_PERSON", 3)

    game_speech.main([str(packages), str(tmp_path / "out")])

    found = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.wav")}
    assert {str(path) for path in found} == {
        *(f"people/ca/animal{number}_desc_ca.wav" for number in range(3)),
        "clips/tuxpaint-en/animal0_desc.wav",
        "clips/queen/01P2.wav",
        "clips/fillets-cs/airplane-fish.wav",
        "clips/hedgewars-Pirate/Hello.wav",
        "clips/0ad-data/audio-voice-latin-yes.wav",
    }
    assert "tuxpaint-stamps-default: 4 recordings, 2 folders" in capsys.readouterr().out
    for path in found:
        audio, rate_hz = soundfile.read(tmp_path / "out" / path)
        assert rate_hz == RATE
        assert len(WORD) - 20_000 < len(audio) < len(WORD) - 14_000, "the silence around it is gone"


def test_a_folder_without_packages_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        game_speech.main([str(tmp_path), str(tmp_path / "out")])
    assert "tuxpaint-stamps-default" in capsys.readouterr().err
