"""Speech probabilities, frame by frame → utterances: where one begins, and when it is over.

Speech begins and ends as it does in a whole recording (`api.vad.SpeechTracker`, the same padding).
An utterance is over when nobody has spoken for a while. One that would not fit Whisper's window is
cut where it is quietest in its last third; what follows the cut begins the next, so that no sample
of speech is lost and none is in two utterances.
"""

from __future__ import annotations

from dataclasses import dataclass

from api.services.whisper import MAX_CHUNK_S
from api.types import SAMPLE_RATE_HZ
from api.vad import FRAME_SAMPLES, IsVoice, SpeechTracker, VadSettings


@dataclass(frozen=True)
class Span:
    """A stretch of a stream, in samples at 16 kHz from its start."""

    start: int
    end: int

    @property
    def start_s(self) -> float:
        return self.start / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        return self.end / SAMPLE_RATE_HZ


class Endpointer:
    """Feed it every frame's probability and energy, in order."""

    def __init__(
        self,
        settings: VadSettings,
        is_voice: IsVoice,
        *,
        silence_s: float,
        max_s: float = MAX_CHUNK_S,
    ) -> None:
        """End an utterance after `silence_s` of silence, and before it is longer than `max_s`;
        `is_voice` is asked as `SpeechTracker` does."""
        self._tracker = SpeechTracker(settings, is_voice)
        self._pad_start = round(settings.pad_start_s * SAMPLE_RATE_HZ)
        self._pad_end = round(settings.pad_end_s * SAMPLE_RATE_HZ)
        self._silence_frames = silence_s * SAMPLE_RATE_HZ / FRAME_SAMPLES
        padding = self._pad_start + self._pad_end
        self._max_frames = int(max_s * SAMPLE_RATE_HZ - padding) // FRAME_SAMPLES
        self._frame = 0
        self._previous_end = 0
        self._start: int | None = None
        self._start_sample = 0
        self._last_end: int | None = None
        self._energies: list[float] = []

    @property
    def current_start(self) -> int | None:
        """Where the utterance under way begins, padding included; None between utterances."""
        return None if self._start is None else self._start_sample

    def push(self, probability: float, energy: float) -> Span | None:
        """Take the next frame; give the utterance that it ended.

        Args:
            probability: of speech, in [0, 1].
            energy: of the frame's samples, on any scale.
        """
        spoken = self._tracker.push(probability)
        frame = self._frame
        self._frame += 1
        if self._tracker.speaking and self._start is None:
            self._begin_at(frame, frame * FRAME_SAMPLES - self._pad_start)
        if self._start is None:
            return None
        self._energies.append(energy)
        if spoken is not None and spoken[1] > self._start:
            self._last_end = spoken[1]
        if not self._tracker.speaking:
            if self._last_end is None:
                self._forget()  # no speech after all, or all of it lies before a cut
                return None
            if self._frame - self._last_end >= self._silence_frames:
                return self._end()
        return self._cut() if self._frame - self._start >= self._max_frames else None

    def finish(self) -> Span | None:
        """The stream is over: give the utterance under way."""
        spoken = self._tracker.finish()
        if self._start is None:
            return None
        if spoken is not None and spoken[1] > self._start:
            self._last_end = spoken[1]
        return self._end() if self._last_end is not None else None

    def _forget(self) -> None:
        self._start = None
        self._start_sample = 0
        self._last_end = None
        self._energies = []

    def _begin_at(self, frame: int, sample: int) -> None:
        self._start = frame
        self._start_sample = max(self._previous_end, sample)

    def _end(self) -> Span:
        assert self._last_end is not None
        end = min(self._last_end * FRAME_SAMPLES + self._pad_end, self._frame * FRAME_SAMPLES)
        span = Span(self._start_sample, end)
        self._previous_end = end
        self._forget()
        return span

    def _cut(self) -> Span:
        assert self._start is not None
        first = 2 * len(self._energies) // 3
        quietest = min(range(first, len(self._energies)), key=self._energies.__getitem__)
        frame = self._start + quietest
        if not self._tracker.speaking and self._last_end is not None and self._last_end <= frame:
            return self._end()
        sample = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
        span = Span(self._start_sample, sample)
        energies = self._energies[quietest:]
        last_end = self._last_end if self._last_end is not None and self._last_end > frame else None
        self._previous_end = sample
        self._forget()
        self._begin_at(frame, sample)
        self._energies, self._last_end = energies, last_end
        return span
