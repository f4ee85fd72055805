"""Windows of spoken digits, German sentences and noise, with the tokens Whisper should write.

Voices are prepared once (speed, room, bandwidth: each combination is one "virtual" voice); windows
are then put together from their recordings by plain copying, and coloured in the log-mel domain,
so that a minute of training audio costs tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.training import augment
from export.training.corpora import DIGIT_WORDS, SAMPLE_RATE_HZ, Recording
from export.training.whisper_features import colour_log_mel, log10_mel, normalise_log_mel
from export.training.whisper_targets import Target, Utterance, Word, write_target
from export.training.whisper_vocabulary import CompactVocabulary, encode_text

FRAMES_PER_SECOND = 50
NUM_POSITIONS = 1500
IGNORED = -100
# FSDD's own test split: the first takes of every speaker; never trained on.
FSDD_TEST_TAKES = 5

SPEECH_LEVEL = 0.05
_SILENCE_SHARE, _GERMAN_SHARE, _SYNTHETIC_SHARE = 0.09, 0.07, 0.3
_VOICE_VARIANTS, _SYNTHETIC_VARIANTS = 12, 2


@dataclass(frozen=True)
class Clip:
    """A digit by one voice: float16 samples at 16 kHz and the bounds of its voiced part (s)."""

    audio: NDArray[np.float16]
    onset_s: float
    offset_s: float


@dataclass(frozen=True)
class Voice:
    """One (virtual) speaker's takes of each digit: ``clips[digit]``."""

    clips: tuple[tuple[Clip, ...], ...]


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
        mel: float32 (batch, 80, 2 * frames).
        offsets: int64 (batch,), each window's first encoder position.
        tokens, labels: compact indices, int64 (batch, length); labels are IGNORED where padded.
        frames: int64 (batch, frames): 0 silence, digit + 1, 11 other speech.
        guide: float32 (batch, length, frames): 1 where the token at that place is spoken.
        digits: int64 (batch, length): the digit predicted at that place, else -1.
    """

    mel: Tensor
    offsets: Tensor
    tokens: Tensor
    labels: Tensor
    frames: Tensor
    guide: Tensor
    digits: Tensor


@dataclass(frozen=True)
class Window:
    """One training example before it joins a batch; ``audio`` float32 (samples,)."""

    audio: NDArray[np.float32]
    offset: int
    target: Target
    utterance: Utterance


def prepare_voices(
    recordings: Sequence[Recording], variants: int, rng: np.random.Generator
) -> list[Voice]:
    """Turn each speaker of digits into ``variants`` voices: as recorded, then changed ones.

    Speakers who lack a digit are left out. A changed voice has one speed and, often, one room.
    """
    speakers: dict[str, list[Recording]] = {}
    for recording in recordings:
        speakers.setdefault(recording.speaker, []).append(recording)
    voices = []
    for own in speakers.values():
        if {recording.digit for recording in own} != set(range(10)):
            continue
        for variant in range(variants):
            speed = 1.0 if variant == 0 else float(rng.uniform(0.8, 1.25))
            room_seed = int(rng.integers(1 << 31)) if variant and rng.random() < 0.4 else None
            narrow = own[0].corpus == "espeak" and rng.random() < 0.6
            cutoff_hz = float(rng.uniform(3400, 4000)) if narrow else None
            voices.append(_change_voice(own, speed, room_seed, cutoff_hz))
    return voices


def _change_voice(
    recordings: Sequence[Recording], speed: float, room_seed: int | None, cutoff_hz: float | None
) -> Voice:
    clips: list[list[Clip]] = [[] for _ in range(10)]
    for recording in recordings:
        audio = recording.audio if speed == 1.0 else augment.change_speed(recording.audio, speed)
        if room_seed is not None:
            audio = augment.add_reverb(audio, np.random.default_rng(room_seed))
        if cutoff_hz is not None:
            audio = augment.lowpass(audio, cutoff_hz)
        stored = augment.normalise_level(audio, SPEECH_LEVEL).astype(np.float16)
        clip = Clip(stored, recording.onset_s / speed, recording.offset_s / speed)
        clips[recording.digit or 0].append(clip)
    return Voice(tuple(tuple(takes) for takes in clips))


def speak_digits(
    voices: Sequence[Voice],
    num_words: int,
    chunk_s: float,
    rng: np.random.Generator,
    lead_s: float,
    gap_s: tuple[float, float],
    pause_share: float = 0.0,
) -> Utterance:
    """A string of random digits by one or more voices in turn, as many as fit into the chunk.

    Args:
        num_words: digits at most.
        lead_s: silence before the first one.
        gap_s: shortest and longest silence between two.
        pause_share: how often a pause of 0.6 to 2.5 s is added to it.
    """
    audio = np.zeros(round(chunk_s * SAMPLE_RATE_HZ), np.float32)
    words: list[Word] = []
    turn, voice, now_s = 0, voices[0], lead_s
    for _ in range(num_words):
        if words and len(voices) > 1 and rng.random() < 0.35:
            turn, voice = turn + 1, voices[rng.integers(len(voices))]
        digit = int(rng.integers(10))
        takes = voice.clips[digit]
        clip = takes[rng.integers(len(takes))]
        end_s = now_s + clip.offset_s - clip.onset_s
        if end_s + 0.05 > chunk_s:
            break
        _place(audio, clip, now_s, 10 ** float(rng.uniform(-0.15, 0.15)))
        words.append(Word((encode_text(DIGIT_WORDS[digit])[0],), now_s, end_s, digit, turn))
        now_s = end_s + float(rng.uniform(*gap_s))
        if rng.random() < pause_share:
            now_s += float(rng.uniform(0.6, 2.5))
    return Utterance(audio, tuple(words), "en")


def _place(audio: NDArray[np.float32], clip: Clip, onset_s: float, gain: float) -> None:
    """Add a clip so that its voiced part starts at ``onset_s``; what sticks out is cut off."""
    start = round((onset_s - clip.onset_s) * SAMPLE_RATE_HZ)
    skipped = max(0, -start)
    start = max(0, start)
    length = min(len(clip.audio) - skipped, len(audio) - start)
    audio[start : start + length] += clip.audio[skipped : skipped + length] * np.float32(gain)


class WindowMaker:
    """Draws training windows; all randomness comes from one generator."""

    def __init__(
        self,
        digits: Sequence[Recording],
        synthetic: Sequence[Recording],
        sentences: Sequence[Recording],
        vocabulary: CompactVocabulary,
        rng: np.random.Generator,
        noise_s: float = 60.0,
    ) -> None:
        self.rng = rng
        self._vocabulary = vocabulary
        self._voices = prepare_voices(digits, _VOICE_VARIANTS, rng)
        self._synthetic_voices = prepare_voices(synthetic, _SYNTHETIC_VARIANTS, rng)
        self._plain_voices = self._voices[::_VOICE_VARIANTS]
        self._plain_synthetic_voices = self._synthetic_voices[::_SYNTHETIC_VARIANTS]
        self._sentences = tuple(sentences)
        self._noise = _noise_tracks(noise_s, rng)

    def batch(self, window_s: float, size: int, harsh_share: float) -> Batch:
        """``size`` windows of ``window_s`` seconds, placed at offset 0 or anywhere in 30 s.

        ``harsh_share`` of them have changed voices, strong noise and coloured sound.
        """
        harsh = [bool(self.rng.random() < harsh_share) for _ in range(size)]
        windows = [self._window(window_s, is_harsh) for is_harsh in harsh]
        audio = torch.from_numpy(np.stack([window.audio for window in windows]))
        log_mel = log10_mel(audio)
        if any(harsh):
            log_mel[harsh] = colour_log_mel(log_mel[harsh], self.rng)
        mel = normalise_log_mel(log_mel)
        return collate(windows, mel, self._vocabulary)

    def _window(self, window_s: float, harsh: bool) -> Window:
        rng = self.rng
        free = NUM_POSITIONS - round(window_s * FRAMES_PER_SECOND)
        offset = int(rng.integers(free + 1)) if rng.random() < 0.55 else 0
        chunk_s = window_s if rng.random() < 0.5 else window_s * float(rng.uniform(0.4, 1.0))
        kind = rng.random()
        if kind < _SILENCE_SHARE:
            utterance = Utterance(self._background(chunk_s), (), "en")
        elif kind < _SILENCE_SHARE + _GERMAN_SHARE and chunk_s > 2.2:
            utterance = self._degrade(self._speak_sentences(chunk_s), harsh)
        else:
            utterance = self._degrade(self._speak_string(chunk_s, harsh), harsh)
        audio = np.zeros(round(window_s * SAMPLE_RATE_HZ), np.float32)
        audio[: len(utterance.audio)] = utterance.audio
        target = write_target(utterance, offset / FRAMES_PER_SECOND, rng)
        return Window(audio, offset, target, utterance)

    def _speak_string(self, chunk_s: float, harsh: bool) -> Utterance:
        rng = self.rng
        if rng.random() < _SYNTHETIC_SHARE:
            pool = self._synthetic_voices if harsh else self._plain_synthetic_voices
        else:
            pool = self._voices if harsh else self._plain_voices
        speakers = int(rng.choice((1, 1, 1, 2, 3)))
        voices = [pool[rng.integers(len(pool))] for _ in range(speakers)]
        gap_s = ((0.03, 0.3), (0.05, 0.8), (0.05, 0.8), (0.3, 1.5))[rng.integers(4)]
        lead_s = float(rng.uniform(0, (0.3, 1.2, 0.5 * chunk_s)[rng.choice(3, p=(0.5, 0.4, 0.1))]))
        most = max(2, round(1.7 * chunk_s))
        num_words = most if rng.random() < 0.5 else int(rng.integers(1, most + 1))
        return speak_digits(voices, num_words, chunk_s, rng, lead_s, gap_s, pause_share=0.1)

    def _speak_sentences(self, chunk_s: float) -> Utterance:
        rng = self.rng
        audio = np.zeros(round(chunk_s * SAMPLE_RATE_HZ), np.float32)
        words: list[Word] = []
        now_s = float(rng.uniform(0, min(1.0, chunk_s - 2.1)))
        while not words or (now_s + 2.3 < chunk_s and rng.random() < 0.6):
            recording = self._sentences[rng.integers(len(self._sentences))]
            speed = float(rng.uniform(0.9, 1.15))
            spoken = augment.change_speed(recording.audio, speed)
            spoken = augment.normalise_level(spoken, SPEECH_LEVEL)
            if rng.random() < 0.5:
                spoken = augment.lowpass(spoken, float(rng.uniform(3400, 4000)))
            clip = Clip(spoken.astype(np.float16), 0.0, len(spoken) / SAMPLE_RATE_HZ)
            end_s = min(now_s + clip.offset_s, chunk_s)
            _place(audio, clip, now_s, 1.0)
            words.append(Word(encode_text(recording.text), now_s, end_s, None, len(words)))
            now_s = end_s + float(rng.uniform(0.2, 1.0))
        return Utterance(audio, tuple(words), "de")

    def _degrade(self, utterance: Utterance, harsh: bool) -> Utterance:
        """Add background at 22 to 45 dB SNR, from 3 dB if harsh (seldom none); set the level."""
        rng, audio = self.rng, utterance.audio
        if rng.random() < 0.9:
            worst_db = float(rng.choice((3.0, 12.0, 22.0))) if harsh else 22.0
            noise = self._slice_noise(len(audio))
            audio = augment.add_noise(audio, noise, rng.uniform(worst_db, 45), SPEECH_LEVEL)
        audio = audio * np.float32(10 ** rng.uniform(-1.5, 0.5))
        if rng.random() < 0.05:
            loudest = np.abs(audio).max() * rng.uniform(0.2, 0.8)
            audio = np.clip(audio, -loudest, loudest)
        return Utterance(audio, utterance.words, utterance.language)

    def _background(self, chunk_s: float) -> NDArray[np.float32]:
        """No speech: noise, hum or tones at any level, perhaps with clicks, or digital silence."""
        rng, num_samples = self.rng, round(chunk_s * SAMPLE_RATE_HZ)
        audio = np.zeros(num_samples, np.float32)
        for _ in range(int(rng.choice((0, 1, 1, 1, 2)))):
            audio += self._slice_noise(num_samples) * np.float32(10 ** rng.uniform(-4.5, -0.7))
        if rng.random() < 0.3:
            for _ in range(int(rng.integers(1, 6))):
                start = int(rng.integers(num_samples))
                audio[start : start + int(rng.integers(5, 400))] += rng.uniform(-0.3, 0.3)
        return audio

    def _slice_noise(self, num_samples: int) -> NDArray[np.float32]:
        track = self._noise[self.rng.integers(len(self._noise))]
        start = int(self.rng.integers(len(track) - num_samples))
        return track[start : start + num_samples]


def _noise_tracks(duration_s: float, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Every kind of background, each so long (more than any window), unit root mean square."""
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    tracks = [augment.coloured_noise(num_samples, rng, kind) for kind in ("white", "pink", "brown")]
    tracks += [augment.coloured_noise(num_samples, rng) for _ in range(6)]
    tracks += [augment.coloured_noise(num_samples, rng, "band") for _ in range(4)]
    tracks += [augment.mains_hum(num_samples, rng) for _ in range(2)]
    tracks += [augment.music_tones(num_samples, rng) for _ in range(8)]
    return tracks


def collate(windows: Sequence[Window], mel: Tensor, vocabulary: CompactVocabulary) -> Batch:
    """Stack windows whose log-mel is ``mel`` (batch, 80, 2 * frames) into one Batch."""
    frames = mel.shape[-1] // 2
    length = max(len(window.target.tokens) for window in windows)
    pad = vocabulary.compact([windows[0].target.labels[-1]])[0]
    tokens = torch.full((len(windows), length), pad)
    labels = torch.full((len(windows), length), IGNORED)
    digits = torch.full((len(windows), length), -1)
    frame_classes = torch.zeros((len(windows), frames), dtype=torch.long)
    guide = torch.zeros((len(windows), length, frames))
    for row, window in enumerate(windows):
        target = window.target
        used, skipped = len(target.tokens), target.num_unlabelled
        tokens[row, :used] = torch.tensor(vocabulary.compact(target.tokens))
        labels[row, skipped:used] = torch.tensor(vocabulary.compact(target.labels[skipped:]))
        for place in target.places:
            first, last = _frame(place.start_s), _frame(place.end_s) + 2
            guide[row, place.position, first:last] = 1
            digits[row, place.position] = -1 if place.digit is None else place.digit
        for word in window.utterance.words:
            kind = 11 if word.digit is None else word.digit + 1
            frame_classes[row, _frame(word.start_s) : _frame(word.end_s) + 1] = kind
    offsets = torch.tensor([window.offset for window in windows])
    return Batch(mel, offsets, tokens, labels, frame_classes, guide, digits)


def _frame(time_s: float) -> int:
    return max(0, int(time_s * FRAMES_PER_SECOND))
