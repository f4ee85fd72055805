"""Who is heard, moment by moment, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from api.services.clustering import sums_by, unit_rows
from api.services.windows import Window

_SHARPNESS = 5.0
"""Probabilities are the softmax of the cosines times this: the value that gave held-out
conversations the lowest cross entropy (docs/speakers.md)."""

_PROBES_S = 0.1


@dataclass(frozen=True, eq=False)
class VoiceTrack:
    """The speakers of a recording, and who of them is heard when.

    Attributes:
        names: by label.
        moments_s: centres of the windows, and the edges of their blocks, in order, shape (n,).
        cosines: of what is heard at each moment with each speaker's voice, shape (n, k); between
            two moments they change evenly.
        voices: sum of each speaker's unit embeddings, float64, shape (k, dim).
        windows: how many windows that is, float64, shape (k,).
    """

    names: tuple[str, ...]
    moments_s: NDArray[np.float64]
    cosines: NDArray[np.float64]
    voices: NDArray[np.float64]
    windows: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        cut: Sequence[Window],
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int64],
        clustered: NDArray[np.bool_] | None = None,
    ) -> VoiceTrack:
        """The track of windows, all of which or some were clustered.

        Args:
            cut: at least one window, in order of time.
            embeddings: float32, shape (len(cut), dim).
            labels: of those that were clustered, in order, 0..k-1 by first appearance.
            clustered: which those are, shape (len(cut),); None says all of them.

        Returns:
            Speakers are "SPEAKER_00", "SPEAKER_01", … by label.

        Raises:
            ValueError: windows, embeddings and labels differ in number.
        """
        if clustered is None:
            clustered = np.ones(len(cut), np.bool_)
        if not (len(cut) == len(embeddings) == len(clustered) and clustered.sum() == len(labels)):
            raise ValueError(
                f"{len(cut)} windows, {len(embeddings)} embeddings and {len(labels)} labels"
            )
        units = unit_rows(embeddings.astype(np.float64))
        voices, windows = sums_by(labels, units[clustered])
        moments_s, rows = _moments(cut)
        return cls(
            names=tuple(f"SPEAKER_{label:02d}" for label in range(len(voices))),
            moments_s=np.array(moments_s),
            cosines=(units @ unit_rows(voices).T)[rows],
            voices=voices,
            windows=windows,
        )

    def at(self, moments_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosines with the speakers at any moments in order, shape (len(moments_s), k)."""
        first, last = np.searchsorted(self.moments_s, (moments_s[0], moments_s[-1]))
        near = slice(max(0, int(first) - 1), int(last) + 1)
        return np.stack(
            [np.interp(moments_s, self.moments_s[near], column) for column in self.cosines[near].T],
            axis=1,
        )

    def confidence(self, name: str, start_s: float, end_s: float) -> float:
        """Mean probability that, of the speakers, it is this one who is heard in a stretch."""
        steps = max(1, round((end_s - start_s) / _PROBES_S))
        moments = start_s + (np.arange(steps) + 0.5) * (end_s - start_s) / steps
        likelihood = np.exp(_SHARPNESS * self.at(moments))
        own = likelihood[:, self.names.index(name)]
        return float((own / likelihood.sum(axis=1)).mean())

    def renamed(self, names: Mapping[str, str]) -> VoiceTrack:
        """The track with another name for each of its speakers."""
        return replace(self, names=tuple(names[name] for name in self.names))


def _moments(cut: Sequence[Window]) -> tuple[list[float], list[int]]:
    """The moments of a track and their windows; silence between two blocks belongs to neither."""
    moments_s: list[float] = []
    rows: list[int] = []
    for row, window in enumerate(cut):
        opens = row == 0 or cut[row - 1].end_s < window.start_s
        closes = row + 1 == len(cut) or window.end_s < cut[row + 1].start_s
        own = [window.start_s] * opens + [window.centre_s] + [window.end_s] * closes
        moments_s += own
        rows += [row] * len(own)
    return moments_s, rows
