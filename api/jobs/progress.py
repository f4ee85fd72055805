"""How far a job is, from what each stage says of itself."""

from __future__ import annotations

from api.types import AnalysisOptions

WEIGHTS = {
    "decode": 0.03,
    "vad": 0.07,
    "whisper": 0.52,
    "speaker_embedding": 0.18,
    "clustering": 0.02,
    "overlap": 0.03,
    "emotion": 0.13,
    "assembly": 0.02,
}
"""Shares of the time that an hour of talk takes with the bundled models on a CPU, in the order of
the stages; other models shift them, but each stage still moves the whole."""


class Progress:
    """Takes `OnProgress`'s calls from any thread; whoever wants to reads `fraction` and `stage`."""

    def __init__(self, options: AnalysisOptions) -> None:
        skipped = set()
        if not options.diarize:
            skipped |= {"speaker_embedding", "clustering", "overlap"}
        if not options.emotions:
            skipped.add("emotion")
        self._weights = {name: w for name, w in WEIGHTS.items() if name not in skipped}
        self._done = dict.fromkeys(self._weights, 0.0)

    def report(self, stage: str, done: float) -> None:
        if stage in self._done:
            self._done[stage] = max(self._done[stage], min(done, 1.0))

    @property
    def fraction(self) -> float:
        """In [0, 1]; never falls."""
        done = sum(weight * self._done[name] for name, weight in self._weights.items())
        return done / sum(self._weights.values())

    @property
    def stage(self) -> str:
        """The first stage that isn't done; several may be under way."""
        return next((name for name, done in self._done.items() if done < 1.0), "store")
