"""Short stretches of conversation, and how many people speak at each moment of them.

Half of what is made has nobody speak over anybody: one voice alone, in rooms whose echo runs into
the next word, over noise, hum and music, and speakers who follow each other at once. Whoever learns
from overlaps alone takes all of that for a second voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from export.training.augment import (
    add_noise,
    coloured_noise,
    equalise,
    lowpass,
    mains_hum,
    music_tones,
    rms,
)
from export.training.corpora import SAMPLE_RATE_HZ
from export.training.frame_network import FRAME_SAMPLES
from export.training.speaker_voices import Takes

MOST_AT_ONCE = 2
"""Three at once are as rare in conversations as nobody's business; they count as two."""

SPEECH_LEVEL = 0.05
"""Root mean square that whoever runs the network brings speech to: -26 dB full scale."""

_TURN_S = (0.3, 3.5)
_PAUSE_S = (0.05, 0.25)  # within a turn, which ends at 0.3 s in NIST's evaluations
_GAP_S = (0.1, 1.2)
_AT_ONCE_S = (0.0, 0.06)  # a change of speaker without a breath
_DEPTH_S = (0.2, 2.5)
_DECAY_S = (0.1, 0.7)  # by 60 dB
_DIRECT_TO_ROOM_DB = (-2.0, 12.0)
_FADE_SAMPLES = 160
_VOICE_GAIN_DB = 5.0
_LEVEL_JITTER_DB = 6.0
_FLOOR = 2e-4  # recordings are never digitally silent: -74 dB full scale


@dataclass(frozen=True)
class Condition:
    """What happens to a stretch, as probabilities.

    Attributes:
        reverb, telephone, noise, colour: that it is sent through a room, a line, noise, a
            microphone.
        snr_db: range of the noise below speech.
        disturbance: that the noise is hum or music instead.
    """

    reverb: float = 0.4
    telephone: float = 0.4
    noise: float = 0.7
    colour: float = 0.5
    snr_db: tuple[float, float] = (5.0, 40.0)
    disturbance: float = 0.3


TRAINING = Condition()
CONDITIONS = {
    "clean": Condition(0, 0, 0, 0),
    "noise": Condition(0, 0, 1, 0, (8.0, 18.0), 0.3),
    "reverb": Condition(1, 0, 0, 0),
    "telephone": Condition(0, 1, 0, 0),
}
"""What the report tells apart."""


@dataclass(frozen=True)
class Stretch:
    """Audio and its truth.

    Attributes:
        samples: float32, shape (num_frames * 320,), 16 kHz.
        voices: int64, shape (num_frames,), 0 to 2: how many hold a turn in each frame.
    """

    samples: NDArray[np.float32]
    voices: NDArray[np.int64]


@dataclass(frozen=True)
class _Turn:
    """Somebody's words and where they begin, in samples; before 0 where they had begun already."""

    who: str
    start: int
    audio: NDArray[np.float32]

    @property
    def end(self) -> int:
        return self.start + len(self.audio)


def mix(
    voices: Mapping[str, Takes],
    num_frames: int,
    rng: np.random.Generator,
    condition: Condition = TRAINING,
) -> Stretch:
    """A stretch of conversation between one, two or three of the voices.

    Args:
        voices: takes by speaker, at least one speaker.
        num_frames: how long it is, in frames of 20 ms.
    """
    num_samples = num_frames * FRAME_SAMPLES
    turns = _plan(voices, num_samples, rng)
    mixed = np.zeros(num_samples, np.float32)
    for who in sorted({turn.who for turn in turns}):
        track = np.zeros(num_samples, np.float32)
        for turn in (turn for turn in turns if turn.who == who):
            _put(track, turn)
        if rng.random() < condition.reverb:
            track = add_room(track, rng)
        mixed += track * np.float32(10 ** (rng.uniform(-_VOICE_GAIN_DB, _VOICE_GAIN_DB) / 20))
    counts = _count(turns, num_frames)
    return Stretch(_record(mixed, np.repeat(counts > 0, FRAME_SAMPLES), rng, condition), counts)


def add_room(track: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Put a voice into a room, up to where it is louder than the voice itself; the length stays.

    Exponentially decaying noise (Polack 1988). `export.training.augment.add_reverb` keeps the room
    6 dB below the voice: trained with that, the network took half a word that still rings for
    somebody else in rooms at 0 dB.
    """
    decay_s = rng.uniform(*_DECAY_S)
    time_s = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    room = rng.standard_normal(len(time_s)) * np.exp(-3 * np.log(10) * time_s / decay_s)
    ratio_db = rng.uniform(*_DIRECT_TO_ROOM_DB)
    room *= 10 ** (-ratio_db / 20) / np.sqrt(np.sum(np.square(room)))
    room[0] = 1.0
    return np.asarray(fftconvolve(track, room)[: len(track)], dtype=np.float32)


def _plan(voices: Mapping[str, Takes], num_samples: int, rng: np.random.Generator) -> list[_Turn]:
    names = sorted(voices)
    how_many = min(len(names), int(rng.choice([1, 2, 3], p=[0.2, 0.6, 0.2])))
    cast = [names[i] for i in rng.permutation(len(names))[:how_many]]
    overlapping = rng.random() < 0.7  # else nobody ever speaks over anybody
    turns: list[_Turn] = []
    start = -int(rng.uniform(0, 2) * SAMPLE_RATE_HZ)
    while start < num_samples:
        last = turns[-1].who if turns else None
        others = [name for name in cast if name != last] or cast
        who = others[rng.integers(len(others))]
        audio = _say(voices[who], rng)
        if turns:
            start = _start(turns, who, rng, overlapping)
        turns.append(_Turn(who, start, audio))
        start = max(turn.end for turn in turns)
    return turns


def _start(turns: Sequence[_Turn], who: str, rng: np.random.Generator, overlapping: bool) -> int:
    """Where the next turn begins: over the last one, at once, or after a gap.

    At most two speak at once, and nobody over themselves.
    """
    ends = sorted((turn.end for turn in turns), reverse=True)
    latest = max(turns, key=lambda turn: turn.end)
    if overlapping and who != latest.who and rng.random() < 0.8:
        depth = rng.uniform(*_DEPTH_S) * SAMPLE_RATE_HZ
        start = latest.end - int(min(depth, 0.9 * len(latest.audio)))
        own = [turn.end for turn in turns if turn.who == who]
        return max(start, *ends[1:2], *own, *(turns[-1].start,))
    gap_s = rng.uniform(*(_AT_ONCE_S if rng.random() < 0.5 else _GAP_S))
    return ends[0] + int(gap_s * SAMPLE_RATE_HZ)


def _say(takes: Sequence[NDArray[np.float32]], rng: np.random.Generator) -> NDArray[np.float32]:
    """Whole takes with pauses between them, faded in and out."""
    wanted = rng.uniform(*_TURN_S) * SAMPLE_RATE_HZ
    pieces: Takes = []
    total = 0
    while not pieces or total < wanted:
        take = takes[rng.integers(len(takes))] * np.float32(10 ** (rng.uniform(-3, 3) / 20))
        ramp = np.linspace(0, 1, min(_FADE_SAMPLES, len(take)), dtype=np.float32)
        take[: len(ramp)] *= ramp
        take[len(take) - len(ramp) :] *= ramp[::-1]
        pause = np.zeros(int(rng.uniform(*_PAUSE_S) * SAMPLE_RATE_HZ), np.float32)
        pieces += [pause, take] if pieces else [take]
        total += len(take) + len(pause)
    return np.concatenate(pieces)


def _put(track: NDArray[np.float32], turn: _Turn) -> None:
    first, last = max(0, turn.start), min(len(track), turn.end)
    if first < last:
        track[first:last] += turn.audio[first - turn.start : last - turn.start]


def _count(turns: Sequence[_Turn], num_frames: int) -> NDArray[np.int64]:
    counts = np.zeros(num_frames, np.int64)
    for turn in turns:
        first, last = (max(0, round(edge / FRAME_SAMPLES)) for edge in (turn.start, turn.end))
        counts[first:last] += 1
    return np.minimum(counts, MOST_AT_ONCE)


def _record(
    mixed: NDArray[np.float32],
    spoken: NDArray[np.bool_],
    rng: np.random.Generator,
    condition: Condition,
) -> NDArray[np.float32]:
    """Through microphone, line and noise, and to about the level that speech has in serving."""
    if rng.random() < condition.colour:
        mixed = equalise(mixed, rng)
    level = rms(mixed[spoken]) if spoken.any() else SPEECH_LEVEL
    if rng.random() < condition.noise:
        noise = _noise(len(mixed), rng, condition.disturbance)
        mixed = add_noise(mixed, noise, rng.uniform(*condition.snr_db), level)
    if rng.random() < condition.telephone:
        mixed = lowpass(mixed, rng.uniform(3200, 3900))
    jitter = 10 ** (rng.uniform(-_LEVEL_JITTER_DB, _LEVEL_JITTER_DB) / 20)
    heard = mixed * np.float32(SPEECH_LEVEL * jitter / level)
    return (heard + rng.standard_normal(len(heard)) * _FLOOR).astype(np.float32)


def _noise(num_samples: int, rng: np.random.Generator, disturbance: float) -> NDArray[np.float32]:
    if rng.random() >= disturbance:
        return coloured_noise(num_samples, rng)
    return (mains_hum if rng.random() < 0.4 else music_tones)(num_samples, rng)
