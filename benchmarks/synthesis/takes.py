"""Single-speaker takes, the bricks of a synthetic conversation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import UsageError
from export.training.corpora import SAMPLE_RATE_HZ, Recording, load_emodb, load_fsdd

_LAYOUTS: Final = {
    re.compile(r"\d_[a-z]+_\d+"): load_fsdd,
    re.compile(r"\d\d[ab]\d\d[WLEAFTN][a-z]"): load_emodb,
}
"""How each corpus names its files, and what reads it."""

_ADJECTIVES: Final = {"boredom": "bored", "fear": "fearful"}
"""EMO-DB's emotions as the bundled checkpoint calls them, where the names differ."""

_MARGIN_S: Final = 0.025
"""Audio kept on either side of the voiced part, under a fade."""

_LEVEL: Final = 0.05
"""Root mean square of every take: -26 dB full scale, ITU-T P.56's usual speech level."""


@dataclass(frozen=True)
class Take:
    """One utterance of one person, cut to its voiced part.

    Attributes:
        audio: float32, shape (num_samples,), 16 kHz, root mean square 0.05.
        speaker: unique across corpora, for example "fsdd-theo".
        onset_s, offset_s: bounds of the voiced part, seconds from the start of `audio`.
        word: what is said where the take is one single word, else None: its times are then known.
        emotion: how it was acted, None where the corpus doesn't say.
    """

    audio: NDArray[np.float32]
    speaker: str
    onset_s: float
    offset_s: float
    word: str | None
    emotion: str | None

    @property
    def voiced_s(self) -> float:
        return self.offset_s - self.onset_s


def read_takes(
    folders: Iterable[Path], voices: Sequence[str] = (), take_numbers: range | None = None
) -> dict[str, list[Take]]:
    """The takes of each speaker in folders of FSDD's or EMO-DB's naming.

    Args:
        voices: only these, by name ("theo", "14") or with their corpus ("fsdd-theo"); empty = all.
        take_numbers: only these takes of each word or sentence; None = all.

    Raises:
        UsageError: a folder is of neither layout, or a voice isn't in any of them.
    """
    recordings = [recording for folder in folders for recording in _load(folder)]
    takes: dict[str, list[Take]] = {}
    for recording in recordings:
        if take_numbers is None or recording.take in take_numbers:
            takes.setdefault(f"{recording.corpus}-{recording.speaker}", []).append(_cut(recording))
    if not voices:
        return takes
    chosen = {}
    for voice in voices:
        names = [name for name in takes if voice in (name, name.partition("-")[2])]
        if not names:
            raise UsageError(f"there is no voice '{voice}'; there are {', '.join(sorted(takes))}")
        chosen.update({name: takes[name] for name in names})
    return chosen


def _load(folder: Path) -> list[Recording]:
    first = min(folder.glob("*.wav"), default=None)
    if first is None:
        raise UsageError(f"no WAV files in {folder}")
    for naming, load in _LAYOUTS.items():
        if naming.fullmatch(first.stem):
            return load(folder)
    raise UsageError(
        f"{folder} is of no known layout: {first.name} is named neither as FSDD does "
        "(7_theo_12.wav) nor as EMO-DB does (03a01Fa.wav)"
    )


def _cut(recording: Recording) -> Take:
    first = max(0, round((recording.onset_s - _MARGIN_S) * SAMPLE_RATE_HZ))
    last = round((recording.offset_s + _MARGIN_S) * SAMPLE_RATE_HZ)
    audio = recording.audio[first:last].astype(np.float32)
    onset_s = recording.onset_s - first / SAMPLE_RATE_HZ
    offset_s = recording.offset_s - first / SAMPLE_RATE_HZ
    voiced = audio[round(onset_s * SAMPLE_RATE_HZ) : round(offset_s * SAMPLE_RATE_HZ)]
    audio *= np.float32(_LEVEL / max(float(np.sqrt(np.mean(np.square(voiced)))), 1e-6))
    ramp = np.linspace(0.0, 1.0, round(_MARGIN_S * SAMPLE_RATE_HZ) // 2, dtype=np.float32)
    audio[: len(ramp)] *= ramp
    audio[len(audio) - len(ramp) :] *= ramp[::-1]
    return Take(
        audio,
        f"{recording.corpus}-{recording.speaker}",
        onset_s,
        offset_s,
        recording.text if recording.digit is not None else None,
        recording.emotion and _ADJECTIVES.get(recording.emotion, recording.emotion),
    )
