"""Speech out of free games, for the speaker recipe: people with a name, and clips of whomever.

    dpkg-deb -x tuxpaint-stamps-default_*.deb PACKAGES/tuxpaint-stamps-default   # and the others
    python -m export.training.game_speech PACKAGES OUT

PACKAGES holds a folder for each of these Debian packages, or of some of them:

    * tuxpaint-stamps-default (2022.06.04, GPL-2): what is on each stamp, read in a dozen languages
      by a volunteer each. Languages with 200 recordings become ``OUT/people/LANGUAGE``, for
      ``export.training.speaker --voices OUT/people``.
    * flight-of-the-amazon-queen (1.0.0, free to distribute and modify with its licence):
      English-speaking actors as some dozen characters.
    * fillets-ng-data and fillets-ng-data-cs (1.0.1, GPL-2): fish and others, in Czech and English.
    * hedgewars-data (1.0.2, GFDL-1.3): fifteen hedgehogs in five languages.
    * 0ad-data (0.0.26, CC BY-SA 3.0): soldiers and citizens in ancient languages.
    * warzone2100-data (4.3.3, GPL-2 or later): radio messages and briefings in English.

All that isn't a person's goes to ``OUT/clips``, for ``--clips OUT/clips``. A recording is cut to
its voiced part and kept if six tenths of that are speech, as the service's own detector hears it,
imported by name; what is written is 16 kHz mono.
"""

from __future__ import annotations

import argparse
import importlib
import io
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from export.training.augment import normalise_level
from export.training.corpora import SAMPLE_RATE_HZ, voiced_bounds

SpeechSeconds = Callable[[NDArray[np.float32]], float]
"""How much of some audio is speech; float32, shape (num_samples,), 16 kHz."""

Recordings = Iterator[tuple[str, bytes]]
"""Where a recording goes, a path without ending, and the file as the game has it."""

_FEWEST_OF_A_PERSON: Final = 200
_MARGIN_S, _SHORTEST_S, _LONGEST_S = 0.025, 0.4, 8.0
_FAINT = 0.01
_MIN_SPEECH_SHARE = 0.6


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the packages that are there, and says how much of each was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m export.training.game_speech",
        description="Cut speech out of unpacked Debian packages of free games.",
    )
    parser.add_argument("packages", type=Path, metavar="PACKAGES", help="a folder for each package")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write WAV files to")
    options = parser.parse_args(arguments)
    known = [name for name in READERS if (options.packages / name).is_dir()]
    if not known:
        parser.error(f"{options.packages} has none of the folders {', '.join(READERS)}")
    speech_s = _service_detector()
    for name in known:
        kept = _write(READERS[name](options.packages / name), options.out, speech_s)
        print(f"{name}: {sum(kept.values())} recordings, {len(kept)} folders", flush=True)


def _service_detector() -> SpeechSeconds:
    vad, types = importlib.import_module("api.vad"), importlib.import_module("api.types")
    detector = vad.VoiceActivityDetector()

    def speech_s(audio: NDArray[np.float32]) -> float:
        regions = vad.trimmed(detector.detect(types.Waveform(audio)))
        return float(sum(region.end - region.start for region in regions))

    return speech_s


def _write(recordings: Recordings, out: Path, speech_s: SpeechSeconds) -> Counter[str]:
    """How many recordings went into each folder."""
    kept: Counter[str] = Counter()
    for name, file in recordings:
        speech = _speech(file, speech_s)
        if speech is not None:
            path = out / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speech, SAMPLE_RATE_HZ)
            kept[path.parent.name] += 1
    return kept


def _speech(file: bytes, speech_s: SpeechSeconds) -> NDArray[np.float32] | None:
    """The voiced part at one level; None where it is too short, or isn't speech for the most."""
    samples, rate_hz = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    audio = soxr.resample(samples.mean(axis=1), rate_hz, SAMPLE_RATE_HZ)
    if len(audio) < _SHORTEST_S * SAMPLE_RATE_HZ or np.abs(audio).max() < _FAINT:
        return None
    onset_s, offset_s = voiced_bounds(audio, threshold_db=-35.0)
    if offset_s - onset_s < _SHORTEST_S:
        return None
    start_s = max(0.0, onset_s - _MARGIN_S)
    end_s = min(start_s + _LONGEST_S, offset_s + _MARGIN_S)
    cut = audio[int(start_s * SAMPLE_RATE_HZ) : int(end_s * SAMPLE_RATE_HZ)]
    if speech_s(cut) < _MIN_SPEECH_SHARE * len(cut) / SAMPLE_RATE_HZ:
        return None
    level = normalise_level(cut)
    return np.asarray(level / max(1.0, 1.01 * np.abs(level).max()), np.float32)


def _tuxpaint(package: Path) -> Recordings:
    by_language: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*_desc*.ogg")):
        language = path.stem.split("_desc")[-1].strip("_") or "en"
        by_language.setdefault(language, []).append(path)
    for language, paths in by_language.items():
        is_person = len(paths) >= _FEWEST_OF_A_PERSON
        folder = f"people/{language}" if is_person else f"clips/tuxpaint-{language}"
        for path in paths:
            yield f"{folder}/{path.stem}", path.read_bytes()


def _amazon_queen(package: Path) -> Recordings:
    """ScummVM's repacked resource file: a table, then the files; speech is `.SB`, in MP3."""
    (path,) = package.rglob("queen.1c")
    content = path.read_bytes()
    (count,) = struct.unpack_from(">H", content, 13)
    for entry in range(count):
        name, _, start, size = struct.unpack_from(">12sBII", content, 15 + 21 * entry)
        stem, _, ending = name.rstrip(b"\0").decode("ascii").rpartition(".")
        if ending == "SB":
            yield f"clips/queen/{stem}", content[start : start + size]


def _fillets(package: Path) -> Recordings:
    """sound/LEVEL/LANGUAGE/NAME.ogg."""
    for path in sorted(package.rglob("*.ogg")):
        language, level = path.parent.name, path.parent.parent.name
        if language in ("cs", "en"):
            yield f"clips/fillets-{language}/{level}-{path.stem}", path.read_bytes()


def _hedgewars(package: Path) -> Recordings:
    """Data/Sounds/voices/PACK/NAME.ogg."""
    for path in sorted(package.rglob("voices/*/*.ogg")):
        yield f"clips/hedgewars-{path.parent.name}/{path.stem}", path.read_bytes()


def _zipped(archive: str, folders: Sequence[str]) -> Callable[[Path], Recordings]:
    """What lies in such folders of an archive of the package."""

    def read(package: Path) -> Recordings:
        (path,) = package.rglob(archive)
        with zipfile.ZipFile(path) as opened:
            for name in sorted(opened.namelist()):
                if name.endswith(".ogg") and name.startswith(tuple(folders)):
                    stem = name.removesuffix(".ogg").replace("/", "-")
                    yield f"clips/{package.name}/{stem}", opened.read(name)

    return read


READERS: Final[dict[str, Callable[[Path], Recordings]]] = {
    "tuxpaint-stamps-default": _tuxpaint,
    "flight-of-the-amazon-queen": _amazon_queen,
    "fillets-ng-data": _fillets,
    "fillets-ng-data-cs": _fillets,
    "hedgewars-data": _hedgewars,
    "0ad-data": _zipped("public/public.zip", ["audio/voice/"]),
    "warzone2100-data": _zipped(
        "base.wz",
        [
            "audio/countdown/",
            "audio/memressp/",
            "audio/tutorial/",
            "audio/vtoltalk/",
            "sequenceaudio/",
        ],
    ),
}


if __name__ == "__main__":
    main()
