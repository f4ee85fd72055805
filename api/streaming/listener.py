"""A stream's bytes → its recording and its utterances; all that is computed in this process.

Synchronous: call it off the event loop, one call at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from api.streaming.decoder import LiveDecoder
from api.streaming.endpointer import Endpointer, Span
from api.types import Waveform
from api.vad import FRAME_SAMPLES, VadState, VoiceActivityDetector

_BLOCK_FRAMES = 256
"""Frames per call of the detector, 8 s: a flood comes in large blocks, and memory is bounded."""


class Listener:
    """Keeps the whole recording: the summary at a stream's end hears it as a file is heard."""

    def __init__(
        self,
        detector: VoiceActivityDetector,
        decoder: LiveDecoder,
        *,
        max_samples: int,
        silence_s: float,
    ) -> None:
        """Hold at most `max_samples` at 16 kHz; end utterances after `silence_s` of silence."""
        self._detector = detector
        self._decoder = decoder
        self._endpointer = Endpointer(detector.settings, self._is_voice, silence_s=silence_s)
        self._state = VadState.initial()
        # Pages of this are only taken from the system once written to: a short stream stays cheap.
        self._recording = np.empty(max_samples, np.float32)
        self._heard = 0
        self.num_samples = 0
        self.is_full = False

    @property
    def recording(self) -> NDArray[np.float32]:
        """What was received: 16 kHz mono, float32, shape (num_samples,), in [-1, 1]; a view of
        what never changes again."""
        return self._recording[: self.num_samples]

    @property
    def current_start(self) -> int | None:
        """First sample of the utterance under way; None between utterances."""
        return self._endpointer.current_start

    def hear(self, data: bytes) -> list[Span]:
        """Take the stream's next bytes; give the utterances that they ended.

        Sets `is_full` when there is more than the recording can hold, and drops that.

        Raises:
            InvalidAudio, UnsupportedAudioFormat: see `api.streaming.decoder`.
        """
        self._keep(self._decoder.push(data))
        return self._listen(self.num_samples // FRAME_SAMPLES * FRAME_SAMPLES)

    def finish(self) -> list[Span]:
        """The stream is over: give the utterances that are left. Raises as `hear`."""
        if not self.is_full:
            self._keep(self._decoder.finish())
        spans = self._listen(self.num_samples)
        last = self._endpointer.finish()
        if last is not None:
            spans.append(Span(last.start, min(last.end, self.num_samples)))
        return spans

    def close(self) -> None:
        """Let go of the decoder and the recording."""
        self._decoder.close()
        self._recording = np.empty(0, np.float32)

    def _keep(self, samples: NDArray[np.float32]) -> None:
        room = len(self._recording) - self.num_samples
        self.is_full = self.is_full or len(samples) > room
        kept = samples[:room]
        self._recording[self.num_samples : self.num_samples + len(kept)] = kept
        self.num_samples += len(kept)

    def _is_voice(self, start: int, end: int) -> bool:
        heard = Waveform(self.recording)
        return self._detector.is_voice(heard, self._detector.settings, start, end)

    def _listen(self, end: int) -> list[Span]:
        """Hear the recording up to a sample; a frame that lacks samples is filled up."""
        spans: list[Span] = []
        while self._heard < end:
            stop = min(self._heard + _BLOCK_FRAMES * FRAME_SAMPLES, end)
            block = self._recording[self._heard : stop]
            missing = -len(block) % FRAME_SAMPLES
            if missing:
                block = np.pad(block, (0, missing), mode="edge")
            probabilities, self._state = self._detector.advance(self._state, block)
            energies = np.square(block).reshape(-1, FRAME_SAMPLES).sum(axis=1)
            for probability, energy in zip(probabilities.tolist(), energies.tolist(), strict=True):
                span = self._endpointer.push(probability, energy)
                if span is not None:
                    spans.append(Span(span.start, min(span.end, self.num_samples)))
            self._heard = stop
        return spans
