"""Whether what the voice activity detector takes for speech is a voice, and not a note of a tune.

`assets/voice_check_16k.onnx` comes from `python -m export.training.voice_check`; its model card
beside it says what it was trained on, and `docs/decisions/0002-vad.md` how often it is right.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from api.networks import open_network
from api.spectrum import FRAME_SAMPLES, power_spectrum
from api.types import SAMPLE_RATE_HZ, Waveform

_BEFORE_FRAMES = 34
"""What the network hears before a frame (`CONTEXT_S` of the recipe)."""

_AFTER_FRAMES = 8
"""What it is given to hear after speech; in a stream there is no more when speech has ended."""

_WORD_FRAMES = 15
"""How long a voice must be heard for: 0.3 s, a short word."""

_SPEECH_LEVEL, _MAX_GAIN = 0.05, 100.0
"""Root mean square that the network is used to of speech (the recipe's `SPEECH_LEVEL`)."""


class VoiceCheck:
    """Hears short stretches again. Make one per process; every method may run in any thread."""

    def __init__(self) -> None:
        self._session = open_network("voice_check_16k.onnx")

    def probability(self, waveform: Waveform, start_s: float, end_s: float) -> float:
        """Of a voice between two times, in [0, 1]: of the 0.3 s that sound most like one, so that a
        word between notes counts.

        About 0.2 ms of one CPU core per second, and for 0.8 s around it.

        Args:
            waveform: the recording, heard up to 0.16 s after `end_s` at least, or over.
            start_s, end_s: not empty, and not outside the recording.
        """
        first = int(start_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES
        last = math.ceil(end_s * SAMPLE_RATE_HZ / FRAME_SAMPLES)
        before = max(0, first - _BEFORE_FRAMES)
        samples = waveform.read(before * FRAME_SAMPLES, (last + _AFTER_FRAMES) * FRAME_SAMPLES)
        gain = _gain(samples[(first - before) * FRAME_SAMPLES : (last - before) * FRAME_SAMPLES])
        power = power_spectrum(samples * gain)
        scores: NDArray[np.float32] = self._session.run(["score"], {"power": power})[0]
        best = _moving_average(scores[first - before : last - before], _WORD_FRAMES).max()
        return 1 / (1 + math.exp(-float(best)))


def _moving_average(values: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Means of every `size` neighbours; of all of them where there are fewer."""
    size = min(size, len(values))
    sums = np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
    return np.asarray((sums[size:] - sums[:-size]) / size)


def _gain(speech: NDArray[np.float32]) -> np.float32:
    """Factor that brings what passes for speech to the level that the network is used to.

    The level is that within frames: an offset or a drift isn't heard, and counts for nothing.
    """
    frames = speech[: len(speech) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    level = float(np.sqrt(frames.var(axis=1, dtype=np.float64).mean())) if len(frames) else 0.0
    return np.float32(min(_SPEECH_LEVEL / max(level, 1e-9), _MAX_GAIN))
