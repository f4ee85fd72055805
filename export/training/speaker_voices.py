"""Voices for the speaker recipe: real people, disguised copies of them, and synthetic speakers.

Thirteen people are too few to learn what tells two strangers apart. Each of them therefore also
appears as several people who don't exist: the same takes with the pitch and the vocal tract
changed, as classes of their own (speed-perturbed speakers as in Yamamoto et al., "Speaker
augmentation and bandwidth extension for deep speaker embedding", Interspeech 2019; here the
formants also move apart from the pitch). espeak-ng adds voices with other prosody, and any folder
of recordings more people.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import istft, stft

from export.training.augment import normalise_level
from export.training.corpora import (
    DIGIT_WORDS,
    EMODB_SENTENCES,
    ESPEAK_ACCENTS,
    ESPEAK_VARIANTS,
    SAMPLE_RATE_HZ,
    Recording,
    read_16k,
    speak,
    voiced_bounds,
)

Takes = list[NDArray[np.float32]]

# A quefrency of 2 ms parts the vocal tract from the pitch of voices below 500 Hz.
_LIFTER_QUEFRENCIES = SAMPLE_RATE_HZ // 500
_STFT_SIZE = 512
_MAX_WARP_GAIN_DB = 20.0
_MARGIN_S = 0.025
_SHORTEST_S, _LONGEST_S = 0.25, 8.0
_FAINT = 0.01


@dataclass(frozen=True)
class Disguise:
    """How a voice is turned into another one.

    Attributes:
        speed: pitch, formants and tempo together, as a tape played faster.
        formants: the formants alone on top of that; above 1 is a shorter vocal tract.
    """

    speed: float = 1.0
    formants: float = 1.0

    @property
    def name(self) -> str:
        return f"s{round(self.speed * 100)}f{round(self.formants * 100)}"


# Spread of strangers' logarithms of speed and formants: up to 25% and 17% away, as far as the six
# disguises below go.
_MOST_SPEED, _MOST_FORMANTS = 0.22, 0.16

# Formants end up 7% or more away from the speaker's own: people keep theirs, whatever their mood.
DISGUISES = (
    Disguise(speed=0.90),
    Disguise(speed=1.11),
    Disguise(speed=1.05, formants=0.87),
    Disguise(speed=0.94, formants=1.15),
    Disguise(speed=0.83, formants=1.08),
    Disguise(speed=1.19, formants=0.94),
)


def real_voices(recordings: Sequence[Recording]) -> dict[str, Takes]:
    """Group recordings by "corpus-speaker", cut to their voiced part, at one level."""
    voices: dict[str, Takes] = {}
    for recording in recordings:
        start = max(0, round((recording.onset_s - _MARGIN_S) * SAMPLE_RATE_HZ))
        end = round((recording.offset_s + _MARGIN_S) * SAMPLE_RATE_HZ)
        take = normalise_level(recording.audio[start:end])
        voices.setdefault(f"{recording.corpus}-{recording.speaker}", []).append(take)
    return voices


def folder_voices(folder: Path, most_takes: int, rng: np.random.Generator) -> dict[str, Takes]:
    """Read any recordings of more people: one folder of WAV files, however deep, for each.

    Args:
        folder: what holds those folders.
        most_takes: at most so many random recordings of each.

    Raises:
        FileNotFoundError: there is no voice, or one without a usable recording.
    """
    voices: dict[str, Takes] = {}
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(own.rglob("*.wav"))
        takes = [_cut(read_16k(paths[i])) for i in rng.permutation(len(paths))]
        usable = [take for take in takes if len(take)][:most_takes]
        if not usable:
            raise FileNotFoundError(f"no WAV file of {_SHORTEST_S} to {_LONGEST_S} s in {own}")
        voices[f"{folder.name}-{own.name}"] = usable
    if not voices:
        raise FileNotFoundError(f"no folders in {folder}")
    return voices


def folder_clips(folder: Path) -> Takes:
    """Read recordings of whomever, one voice in each: all WAV files, however deep.

    Raises:
        FileNotFoundError: none of them is usable.
    """
    clips = [_cut(read_16k(path)) for path in sorted(folder.rglob("*.wav"))]
    usable = [clip for clip in clips if len(clip)]
    if not usable:
        raise FileNotFoundError(f"no WAV file of {_SHORTEST_S} to {_LONGEST_S} s in {folder}")
    return usable


def disguised_voices(
    voices: Mapping[str, Takes], rng: np.random.Generator, takes_each: int
) -> dict[str, Takes]:
    """Make one new speaker of every voice and every disguise, from ``takes_each`` random takes."""
    disguised = {}
    for name, takes in voices.items():
        for mask in DISGUISES:
            chosen = rng.permutation(len(takes))[:takes_each]
            disguised[f"{name}-{mask.name}"] = [disguise(takes[i], mask) for i in chosen]
    return disguised


def stranger(
    takes: Sequence[NDArray[np.float32]], num_samples: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A window of somebody new: random takes of one voice under a disguise of its own."""
    mask = Disguise(
        speed=float(np.exp(rng.uniform(-_MOST_SPEED, _MOST_SPEED))),
        formants=float(np.exp(rng.uniform(-_MOST_FORMANTS, _MOST_FORMANTS))),
    )
    undisguised = string_takes(takes, math.ceil(num_samples * mask.speed) + 1, rng)
    return disguise(undisguised, mask)[:num_samples]


def disguise(audio: NDArray[np.float32], mask: Disguise) -> NDArray[np.float32]:
    """Change who seems to speak: float32 in, float32 out, shape (about num_samples / speed,)."""
    changed = np.asarray(
        soxr.resample(audio, SAMPLE_RATE_HZ * mask.speed, SAMPLE_RATE_HZ), dtype=np.float32
    )
    if mask.formants != 1.0:
        changed = move_formants(changed, mask.formants)
    return normalise_level(changed)


def move_formants(audio: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Stretch the spectral envelope along frequency and leave the harmonics where they are.

    The envelope is the log spectrum's slow part, found by liftering its cepstrum.

    Args:
        audio: float32, shape (num_samples,), 16 kHz.
        factor: formant frequencies are multiplied by it.

    Returns:
        float32, shape (num_samples,).
    """
    size = min(_STFT_SIZE, len(audio))
    _, _, spectrum = stft(audio, nperseg=size, noverlap=size * 3 // 4)
    log_magnitude = np.log(np.abs(spectrum) + 1e-6)
    cepstrum = np.fft.irfft(log_magnitude, axis=0)
    cepstrum[_LIFTER_QUEFRENCIES : len(cepstrum) - _LIFTER_QUEFRENCIES + 1] = 0
    envelope = np.fft.rfft(cepstrum, axis=0).real[: len(spectrum)]
    bins = np.arange(len(envelope))
    source = np.minimum(bins / factor, len(envelope) - 1)
    low = np.minimum(source.astype(int), len(envelope) - 2)
    weight = (source - low)[:, None]
    moved = envelope[low] * (1 - weight) + envelope[low + 1] * weight
    limit = _MAX_WARP_GAIN_DB / 20 * np.log(10)
    gain = np.exp(np.clip(moved - envelope, -limit, limit))
    _, shaped = istft(spectrum * gain, nperseg=size, noverlap=size * 3 // 4)
    return np.asarray(shaped[: len(audio)], dtype=np.float32)


def synthetic_voices(num_voices: int, seed: int) -> dict[str, Takes]:
    """Speak digits and EMO-DB's sentences with random espeak-ng voices, one speaker each.

    Raises:
        FileNotFoundError: the ``espeak-ng`` program is not installed.
    """
    rng = random.Random(seed)
    voices: dict[str, Takes] = {}
    sentences = list(EMODB_SENTENCES.values())
    for index in range(num_voices):
        variant = rng.choice(ESPEAK_VARIANTS)
        english = f"{rng.choice(ESPEAK_ACCENTS)}+{variant}"
        pitch = rng.randint(10, 90)
        spoken = [(word, english) for word in DIGIT_WORDS]
        spoken += [(text, f"de+{variant}") for text in rng.sample(sentences, 4)]
        takes = []
        for text, voice in spoken:
            audio = speak(text, voice, pitch, rng.randint(120, 200))
            onset_s, offset_s = voiced_bounds(audio, threshold_db=-38.0)
            if offset_s - onset_s >= 0.1:
                cut = audio[round(onset_s * SAMPLE_RATE_HZ) : round(offset_s * SAMPLE_RATE_HZ)]
                takes.append(normalise_level(cut))
        voices[f"espeak-{index:03d}"] = takes
    return voices


def _cut(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The voiced part at one level; empty where that is too short or too long, or hardly there."""
    if not len(audio) or np.abs(audio).max() < _FAINT:
        return audio[:0]
    onset_s, offset_s = voiced_bounds(audio, threshold_db=-38.0)
    if not _SHORTEST_S <= offset_s - onset_s <= _LONGEST_S:
        return audio[:0]
    start = max(0, round((onset_s - _MARGIN_S) * SAMPLE_RATE_HZ))
    return normalise_level(audio[start : round((offset_s + _MARGIN_S) * SAMPLE_RATE_HZ)])


def string_takes(
    takes: Sequence[NDArray[np.float32]], num_samples: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Join random takes of one voice with pauses of 20 to 250 ms, cut at ``num_samples``."""
    first = takes[rng.integers(len(takes))]
    if len(first) > num_samples:
        start = int(rng.integers(len(first) - num_samples + 1))
        return first[start : start + num_samples]
    pieces: Takes = []
    total = 0
    while total < num_samples:
        take = first if not pieces else takes[rng.integers(len(takes))]
        pause = np.zeros(int(rng.uniform(0.02, 0.25) * SAMPLE_RATE_HZ), dtype=np.float32)
        pieces += [take * np.float32(10 ** (rng.uniform(-3, 3) / 20)), pause]
        total += len(take) + len(pause)
    return np.concatenate(pieces)[:num_samples]
