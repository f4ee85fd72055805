"""A whole recording at once, as only tests may ask for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from api.types import Waveform


def all_of(waveform: Waveform) -> NDArray[np.float32]:
    """Every sample: float32, shape (num_samples,)."""
    return waveform.read(0, waveform.num_samples)
