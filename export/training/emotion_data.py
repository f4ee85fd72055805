"""Windows for the emotion recipe: cut, repeated, padded, coloured and noisy as users' are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.training.augment import change_speed, normalise_level
from export.training.corpora import SAMPLE_RATE_HZ, Recording
from export.training.emotion_features import HOP, log_mel, pitch_track, utterance_statistics

LABELS = ("angry", "bored", "disgust", "fearful", "happy", "sad", "neutral")
WINDOW = 2 * SAMPLE_RATE_HZ
UNLABELLED = -1

_LABEL_OF_CORPUS_NAME = {"boredom": "bored", "fear": "fearful"}
# Pauses count as this many nepers of power (43 dB) below the loudest mel, however quiet they are.
_MEL_RANGE = 10.0
_SHORTEST = round(1.2 * SAMPLE_RATE_HZ)


@dataclass(frozen=True)
class Clip:
    """One utterance at one speed, with what the network is to find in it.

    Attributes:
        audio: float32, shape (num_samples,), 16 kHz, at least 1 s.
        label: index into LABELS, or UNLABELLED.
        speaker: corpus and speaker.
        frames: float32, shape (num_frames, 42), every 10 ms: log2 of the pitch in Hz, voicing
            strength, 40 log-mels.
        statistics: float32, shape (105,), as ``utterance_statistics`` gives them.
    """

    audio: NDArray[np.float32]
    label: int
    speaker: str
    frames: NDArray[np.float32]
    statistics: NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Windows drawn from clips, with their targets.

    Attributes:
        audio: float32, shape (num_windows, num_samples), zero mean and unit variance per row.
        frames: float32, shape (num_windows, num_samples / 160, 42), as in Clip, of the undisturbed
            speech; row i is centred on sample 160 i + 80. Padding is unvoiced and as quiet as a
            pause.
        statistics: float32, shape (num_windows, 105).
        labels: int64, shape (num_windows,).
    """

    audio: Tensor
    frames: Tensor
    statistics: Tensor
    labels: Tensor


def label_of(recording: Recording) -> int:
    """Index into LABELS, UNLABELLED for speech without an acted emotion."""
    if recording.emotion is None:
        return UNLABELLED
    return LABELS.index(_LABEL_OF_CORPUS_NAME.get(recording.emotion, recording.emotion))


def make_clip(audio: NDArray[np.float32], label: int, speaker: str) -> Clip:
    """Measure the targets of an utterance (about 9 ms of CPU)."""
    audio = normalise_level(audio)
    waveform = torch.from_numpy(audio)
    pitch_hz, voicing = pitch_track(waveform)
    mels = log_mel(waveform)
    # Windows of pitch last 50 ms, those of mels 25: mel frame i + 1 is nearest pitch frame i.
    mels = torch.maximum(mels, mels.max() - _MEL_RANGE)[1 : len(pitch_hz) + 1]
    frames = torch.cat([torch.log2(pitch_hz)[:, None], voicing[:, None], mels], 1).numpy()
    return Clip(audio, label, speaker, frames, utterance_statistics(waveform).numpy())


def emotional_clips(
    recordings: Sequence[Recording], speeds: int, max_change: float, rng: np.random.Generator
) -> list[Clip]:
    """Each recording at its own speed and ``speeds - 1`` others, by up to ``1 + max_change``."""
    widest = np.log(1 + max_change)
    clips = []
    for recording in recordings:
        for factor in (1.0, *np.exp(rng.uniform(-widest, widest, speeds - 1))):
            audio = change_speed(recording.audio, float(factor))
            clips.append(make_clip(audio, label_of(recording), f"emodb-{recording.speaker}"))
    return clips


def spoken_strings(
    recordings: Sequence[Recording], count: int, rng: np.random.Generator
) -> list[Clip]:
    """Random digits of one speaker joined to two seconds or more, at random speed, unlabelled."""
    speakers = sorted({recording.speaker for recording in recordings})
    clips = []
    for index in range(count):
        speaker = speakers[index % len(speakers)]
        takes = [recording for recording in recordings if recording.speaker == speaker]
        parts: list[NDArray[np.float32]] = []
        while sum(map(len, parts)) < WINDOW:
            take = takes[rng.integers(len(takes))]
            first, last = (round(s * SAMPLE_RATE_HZ) for s in (take.onset_s, take.offset_s))
            pause = np.zeros(int(rng.uniform(0, 0.15) * SAMPLE_RATE_HZ), np.float32)
            parts += [normalise_level(take.audio[first:last]), pause]
        audio = change_speed(np.concatenate(parts), float(np.exp(rng.uniform(-0.2, 0.2))))
        clips.append(make_clip(audio, UNLABELLED, f"fsdd-{speaker}"))
    return clips


def sampling_weights(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Probabilities by which all labels, and within one all speakers, are drawn equally often."""
    cells = [(clip.label, clip.speaker) for clip in clips]
    labels = {label for label, _ in cells}
    speakers = {label: len({cell for cell in cells if cell[0] == label}) for label in labels}
    sizes = {cell: cells.count(cell) for cell in set(cells)}
    return np.array([1 / (len(labels) * speakers[cell[0]] * sizes[cell]) for cell in cells])


def fit_window(
    num_samples: int, rng: np.random.Generator, window: int = WINDOW
) -> NDArray[np.int64]:
    """Choose which samples of an utterance fill a window, the way callers differ in doing it.

    Returns:
        int64, shape (window,): sample numbers, -1 for a zero. Long utterances are cut at
        random; short ones, and three in ten others cut to 1.2 s or more, are repeated (as the
        service does), or padded with zeros before and after, or after only.
    """
    length = min(num_samples, window)
    if length > _SHORTEST and rng.random() < 0.3:
        length = int(rng.integers(_SHORTEST, length + 1))
    start = int(rng.integers(num_samples - length + 1))
    taken = np.arange(start, start + length)
    way = rng.random()
    if way < 0.6:
        return np.resize(taken, window)
    before = int(rng.integers(window - length + 1)) if way < 0.8 else 0
    return np.pad(taken, (before, window - length - before), constant_values=-1)


def draw_windows(clips: Sequence[Clip], rng: np.random.Generator, window: int = WINDOW) -> Windows:
    """One window of every clip, disturbed; ``window`` in samples, a multiple of 160."""
    audio = np.zeros((len(clips), window), np.float32)
    frames = np.zeros((len(clips), window // HOP, clips[0].frames.shape[1]), np.float32)
    for row, clip in enumerate(clips):
        samples = fit_window(len(clip.audio), rng, window)
        audio[row] = np.where(samples < 0, 0, clip.audio[samples])
        centres = samples[HOP // 2 :: HOP]
        # The clip's frame i is centred on its sample 160 i + 400.
        nearest = np.clip((centres - 400 + HOP // 2) // HOP, 0, len(clip.frames) - 1)
        pause = np.full(clip.frames.shape[1], clip.frames[:, 2:].min())
        pause[:2] = 0
        frames[row] = np.where(centres[:, None] < 0, pause, clip.frames[nearest])
    return Windows(
        audio=standardise(disturb(torch.from_numpy(audio), rng)),
        frames=torch.from_numpy(frames),
        statistics=torch.from_numpy(np.stack([clip.statistics for clip in clips])),
        labels=torch.tensor([clip.label for clip in clips]),
    )


def disturb(clean: Tensor, rng: np.random.Generator) -> Tensor:
    """Room, colour, bandwidth and noise for a batch at once, in the frequency domain.

    The functions of ``augment`` do the same clip by clip, at several times the cost.

    Args:
        clean: float32, shape (batch, num_samples), 16 kHz.

    Returns:
        float32, the same shape: a third of the rows echo, most are coloured within ±6 dB and noisy
        at 5 to 45 dB SNR, a sixth are telephone-narrow.
    """
    size, num_samples = clean.shape
    spectrum = torch.fft.rfft(clean)
    frequency_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.shape[1])
    knots = np.linspace(0, 1, 6)
    gains = np.ones((size, spectrum.shape[1]), np.float32)
    noise = np.ones_like(gains)
    log_frequency = np.log(np.maximum(frequency_hz, 30.0)).astype(np.float32)
    snr_db = rng.uniform(5, 45, size)
    snr_db[rng.random(size) < 0.3] = np.inf
    for row in range(size):
        if rng.random() < 0.6:
            curve_db = np.interp(np.sqrt(frequency_hz / 8000), knots, rng.uniform(-6, 6, 6))
            gains[row] = 10 ** (curve_db / 20)
        if rng.random() < 0.17:
            gains[row] /= np.sqrt(1 + (frequency_hz / rng.uniform(3300, 4000)) ** 16)
        noise[row] = np.exp(-rng.uniform(0, 1) * log_frequency)
    echoing = torch.from_numpy(rng.random(size) < 0.3)
    if echoing.any():
        spectrum[echoing] *= torch.fft.rfft(_rooms(int(echoing.sum()), num_samples, rng))
    spectrum *= torch.from_numpy(gains)
    noise *= 10 ** (-snr_db[:, None] / 20) / np.sqrt((noise**2).mean(1, keepdims=True))
    level = spectrum.abs().square().mean(1, keepdim=True).sqrt()
    parts = rng.standard_normal((size, spectrum.shape[1], 2), np.float32) * np.float32(0.5**0.5)
    white = torch.view_as_complex(torch.from_numpy(parts))
    return torch.fft.irfft(spectrum + white * torch.from_numpy(noise) * level, num_samples)


def _rooms(count: int, num_samples: int, rng: np.random.Generator) -> Tensor:
    """Impulse responses, decaying by 60 dB in 0.1 to 0.5 s: float32, shape (count, num_samples)."""
    decay = rng.uniform(0.1, 0.5, (count, 1)) * SAMPLE_RATE_HZ
    tails = rng.standard_normal((count, num_samples), np.float32)
    tails *= np.exp(-6.9 * np.arange(num_samples) / decay).astype(np.float32)
    tails *= (rng.uniform(0.2, 1.2, (count, 1)) / np.sqrt(decay)).astype(np.float32)
    tails[:, 0] = 1.0
    return torch.from_numpy(tails)


def standardise(audio: Tensor) -> Tensor:
    """Zero mean and unit variance per row, as Wav2Vec2FeatureExtractor(do_normalize=True) does."""
    centred = audio - audio.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(1, keepdim=True) + 1e-7)
