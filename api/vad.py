"""`Waveform` → speech regions, with Silero's voice activity detector (version 6.2.3, MIT).

`assets/silero_vad_16k.onnx` is `silero_vad_16k_sequence.onnx` of the PyPI package `silero-vad`
6.2.3, laid out anew by `python -m export.voice_activity`: the same answers for a third of the time.
(The package itself would bring torch.) The network hears frames of 32 ms in order and carries an
LSTM state from one to the next, so a whole recording and a live stream go through the same
`VoiceActivityDetector.advance`, many frames or one at a time.
`docs/decisions/0002-vad.md` holds the measurements that chose the model and every default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from api.networks import open_network
from api.types import SAMPLE_RATE_HZ, OnProgress, Region, Waveform, unheard
from api.voice_check import VoiceCheck

FRAME_SAMPLES = 512
"""Samples per probability, 32 ms: the only frame length that the network was trained with."""

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

IsVoice = Callable[[int, int], bool]
"""Whether what passes for speech between two frames is a voice."""

VAD_RELEASE = "silero-6.2.3/3"
"""The network's release, and a number that counts up when the code around it answers otherwise."""

_CONTEXT_SAMPLES = 64
"""Samples of the previous frame that the network wants in front of each frame."""

_STATE_SIZE = 128

_HIGH_PASS_SAMPLES = 512
"""Length of the running mean that is subtracted: a linear-phase high-pass with its first null at
31 Hz. The network is half deaf to speech on top of an offset or a drift: with it, missed digits
20 dB above noise fall from 10 to 2 of 450, and at an offset of 0.05 from 9 to 0 of 150."""

_QUIET_PEAK, _MAX_GAIN = 0.1, 30.0
"""Recordings with a lower peak are raised to it, by up to 30 dB: digits are found down to a peak of
0.03 as they are, and hardly any at 0.003. Noise raised that far still isn't taken for speech."""

_BLOCK_FRAMES = 512
"""Frames per call of the network: 16 s of audio, about 1 MB, whatever the recording's length."""

_LATE_START_S, _LATE_END_S = 0.01, 0.05
"""How late the network notices that speech begins and ends. Measured on 36 conversations of 60 s
(FSDD and EMO-DB; clean, 10 to 20 dB, reverberant; `docs/decisions/0002-vad.md`): with it, median
borders of turns lie within 0.02 s for strings of digits, and ends 0.04 to 0.07 s late for sentences
that fade."""


@dataclass(frozen=True)
class VadSettings:
    """When speech begins and ends; all chosen by measurement, see `docs/decisions/0002-vad.md`."""

    onset: float = 0.4
    """Probability at which speech begins."""
    offset: float = 0.25
    """Probability below which speech may end; between the two nothing changes."""
    min_speech_s: float = 0.1
    """Shorter speech is dropped: clicks and single notes."""
    min_voice: float = 0.2
    """Probability of a voice (`api.voice_check`) below which speech shorter than `sure_s` is
    dropped: single notes of a tune pass for speech."""
    sure_s: float = 5.0
    min_silence_s: float = 0.2
    """Shorter silence doesn't end speech: stops within words."""
    pad_start_s: float = 0.1
    """Put before speech: soft consonants that the network notices late."""
    pad_end_s: float = 0.06
    """Put behind speech; less than before it, since the network itself lets go late."""

    def tuned(
        self,
        *,
        onset: float | None = None,
        min_silence_s: float | None = None,
        pad_start_s: float | None = None,
    ) -> VadSettings:
        """These settings but for what is given; the offset keeps its ratio to the onset, and so
        does the probability of a voice where the onset is lowered."""
        given = {"onset": onset, "min_silence_s": min_silence_s, "pad_start_s": pad_start_s}
        if onset is not None:
            given["offset"] = self.offset / self.onset * onset
            given["min_voice"] = self.min_voice * min(1.0, onset / self.onset)
        return replace(self, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class VadState:
    """What the detector remembers of a stream; `VoiceActivityDetector.advance` gives the next."""

    tail: NDArray[np.float32]
    """Raw samples that the running mean still holds, shape (512,)."""
    context: NDArray[np.float32]
    """Last samples given to the network, shape (64,)."""
    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]
    """State of the LSTM, each of shape (1, 1, 128)."""

    @classmethod
    def initial(cls) -> VadState:
        """State before the first sample of a stream."""
        state = np.zeros((1, 1, _STATE_SIZE), np.float32)
        return cls(
            np.zeros(_HIGH_PASS_SAMPLES, np.float32),
            np.zeros(_CONTEXT_SAMPLES, np.float32),
            state,
            state,
        )


class SpeechTracker:
    """Turns the probabilities of successive frames into spans of speech, with hysteresis.

    Feed it a stream's frames in order. `speaking` tells whether speech is going on at the moment.
    """

    def __init__(self, settings: VadSettings, is_voice: IsVoice) -> None:
        """Ask `is_voice` about every short span, before it is given."""
        self._settings = settings
        self._is_voice = is_voice
        self._min_silence_frames = settings.min_silence_s / FRAME_S
        self._min_speech_frames = settings.min_speech_s / FRAME_S
        self._sure_frames = settings.sure_s / FRAME_S
        self._frame = 0
        self._start: int | None = None
        self._silence_start: int | None = None

    @property
    def speaking(self) -> bool:
        return self._start is not None

    def push(self, probability: float) -> tuple[int, int] | None:
        """Take the next frame; give the span (first frame, frame after the last) that it ended."""
        frame = self._frame
        self._frame += 1
        if probability >= self._settings.onset:
            self._silence_start = None
            if self._start is None:
                self._start = frame
        elif self._start is not None and (
            self._silence_start is not None or probability < self._settings.offset
        ):
            if self._silence_start is None:
                self._silence_start = frame
            if self._frame - self._silence_start >= self._min_silence_frames:
                return self.finish()
        return None

    def finish(self) -> tuple[int, int] | None:
        """End the stream, or the speech that is going on; give its span unless it is too short or
        no voice."""
        start, end = self._start, self._silence_start
        self._start = self._silence_start = None
        if start is None:
            return None
        if end is None:
            end = self._frame
        length = end - start
        if length < self._min_speech_frames:
            return None
        return (start, end) if length >= self._sure_frames or self._is_voice(start, end) else None


class VoiceActivityDetector:
    """Finds the speech in a recording. Make one per process; every method may run in any thread."""

    def __init__(self, settings: VadSettings | None = None) -> None:
        self.settings = settings or VadSettings()
        self._session = open_network("silero_vad_16k.onnx")
        self._voice_check = VoiceCheck()

    def detect(
        self,
        waveform: Waveform,
        settings: VadSettings | None = None,
        on_progress: OnProgress = unheard,
    ) -> list[Region]:
        """Where speech itself lies: regions in order, not touching each other.

        For `padded`, which gives what to listen to, and `trimmed`, which gives what to count.
        About 0.6 to 1 ms of one CPU core per second of audio. `settings` replace its own;
        `on_progress` hears of stage "vad".
        """
        settings = settings or self.settings
        tracker = SpeechTracker(settings, partial(self.is_voice, waveform, settings))
        spans = [tracker.push(p) for p in self.probabilities(waveform, on_progress).tolist()]
        spans.append(tracker.finish())
        ends = waveform.duration_s  # the last frame was filled up
        return [Region(s[0] * FRAME_S, min(ends, s[1] * FRAME_S)) for s in spans if s]

    def is_voice(self, waveform: Waveform, settings: VadSettings, start: int, end: int) -> bool:
        """Whether what passes for speech in frames `start` up to `end` is a voice."""
        start_s, end_s = start * FRAME_S, min(end * FRAME_S, waveform.duration_s)
        return self._voice_check.probability(waveform, start_s, end_s) >= settings.min_voice

    def probabilities(
        self, waveform: Waveform, on_progress: OnProgress = unheard
    ) -> NDArray[np.float32]:
        """Probability of speech per 32 ms of a whole recording; a very quiet one is raised first.

        Two passes over the recording, block by block.

        Returns:
            float32, shape (ceil(num_samples / 512),), in [0, 1]; the last frame is filled up.
        """
        state = VadState.initial()
        gain = _gain(waveform)
        found: list[NDArray[np.float32]] = []
        heard = 0
        for samples in waveform.blocks(_BLOCK_FRAMES * FRAME_SAMPLES):
            block = samples * gain
            missing = -len(block) % FRAME_SAMPLES
            if missing:
                block = np.pad(block, (0, missing), mode="edge")
            probabilities, state = self.advance(state, block)
            found.append(probabilities)
            heard += len(samples)
            on_progress("vad", heard / waveform.num_samples)
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def advance(
        self, state: VadState, samples: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], VadState]:
        """Probability of speech for the next frames of a stream, and the state after them.

        Args:
            state: what the previous call gave, or `VadState.initial()`.
            samples: float32, shape (num_frames * 512,), num_frames >= 1, in [-1, 1], 16 kHz.

        Returns:
            Probabilities float32, shape (num_frames,), in [0, 1], and the next state.

        Raises:
            ValueError: not a whole number of frames.
        """
        if len(samples) == 0 or len(samples) % FRAME_SAMPLES:
            raise ValueError(f"{len(samples)} samples are no whole number of frames")
        heard = np.concatenate((state.context, _high_pass(state.tail, samples)))
        width = _CONTEXT_SAMPLES + FRAME_SAMPLES
        frames = np.lib.stride_tricks.sliding_window_view(heard, width)[::FRAME_SAMPLES]
        probabilities, hidden, cell = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.ascontiguousarray(frames), "h": state.hidden, "c": state.cell},
        )
        tail = np.array(samples[-_HIGH_PASS_SAMPLES:], np.float32)
        return probabilities, VadState(tail, heard[-_CONTEXT_SAMPLES:].copy(), hidden, cell)


def _gain(waveform: Waveform) -> np.float32:
    """Factor that brings a very quiet recording up to where the network hears well; else 1."""
    peak = max((max(b.max(), -b.min()) for b in waveform.blocks()), default=0.0)
    return np.float32(np.clip(_QUIET_PEAK / max(peak, 1e-9), 1.0, _MAX_GAIN))


def _high_pass(tail: NDArray[np.float32], samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from each sample the mean of the 512 up to it; `tail` holds the 512 before."""
    sums = np.cumsum(np.concatenate(([0.0], tail, samples)), dtype=np.float64)
    means = (sums[_HIGH_PASS_SAMPLES + 1 :] - sums[1:-_HIGH_PASS_SAMPLES]) / _HIGH_PASS_SAMPLES
    return np.asarray(samples - means, np.float32)


def padded(
    detected: Sequence[Region], duration_s: float, settings: VadSettings | None = None
) -> list[Region]:
    """What the models listen to: wider than the speech, so that they miss no soft consonant.

    Args:
        detected: what `VoiceActivityDetector.detect` found.
        duration_s: the recording's length, beyond which nothing is added.

    Returns:
        Regions in order that don't touch each other.
    """
    settings = settings or VadSettings()
    regions: list[Region] = []
    for speech in detected:
        start = max(0.0, speech.start - settings.pad_start_s)
        end = min(duration_s, speech.end + settings.pad_end_s)
        if regions and start <= regions[-1].end:
            start = regions.pop().start
        regions.append(Region(start, end))
    return regions


def trimmed(detected: Sequence[Region]) -> list[Region]:
    """What counts as talk: from where speech is heard to where it ends, less the delays of the
    network. Takes what `VoiceActivityDetector.detect` found."""
    return [
        Region(max(0.0, speech.start - _LATE_START_S), speech.end - _LATE_END_S)
        for speech in detected
    ]
