"""What is trained when: the encoder first, then short windows, then longer and longer ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Share of the whole run in which the encoder learns alone, to tell the digits apart.
ENCODER_SHARE = 0.1
# Seconds of audio in one step.
STEP_AUDIO_S = 40.0
PEAK_LEARNING_RATE = 1.5e-3


@dataclass(frozen=True)
class Phase:
    """From ``begins`` (share of the run) on, windows of these lengths (s) are drawn evenly.

    ``harsh_share`` of them have changed voices, strong noise and coloured sound.
    """

    begins: float
    window_s: tuple[float, ...]
    harsh_share: float
    encoder_only: bool = False


PHASES = (
    Phase(0.0, (2.0,), 0.3, encoder_only=True),
    Phase(ENCODER_SHARE, (2.0, 3.0, 4.0), 0.4),
    Phase(0.22, (3.0, 5.0, 8.0), 0.55),
    Phase(0.5, (5.0, 8.0, 12.0), 0.65),
    Phase(0.7, (5.0, 10.0, 15.0, 20.0, 30.0), 0.65),
)


def phase_at(progress: float) -> Phase:
    """The phase at a share 0..1 of the run."""
    return [phase for phase in PHASES if phase.begins <= progress][-1]


def draw_window(progress: float, rng: np.random.Generator) -> tuple[float, int, float]:
    """A window length (s), how many of them make up a step, and the harsh ones' share."""
    phase = phase_at(progress)
    window_s = phase.window_s[rng.integers(len(phase.window_s))]
    return window_s, max(2, round(STEP_AUDIO_S / window_s)), phase.harsh_share


def learning_rate(progress: float, steps_in_phase: int) -> float:
    """Cosine to 2% over the encoder's phase, and again over the rest; 60 steps of warm-up each."""
    if progress < ENCODER_SHARE:
        share = progress / ENCODER_SHARE
    else:
        share = (progress - ENCODER_SHARE) / (1 - ENCODER_SHARE)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return PEAK_LEARNING_RATE * min(1.0, (steps_in_phase + 1) / 60) * (0.02 + 0.98 * cosine)
