"""Counters that Triton publishes on its metrics port.

Triton counts a request that was answered with an error of its own as a success; these tell the
truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Outcome = Literal["transcribed", "invalid", "cancelled", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("transcribed", "invalid", "cancelled", "failed")


class Counters:
    """`whisper_requests_total` by outcome and `whisper_audio_seconds_total`, by model version.

    `family`: pb_utils.MetricFamily, which exists inside of Triton alone.
    """

    def __init__(self, family: Callable[..., Any], counter: Any, version: str) -> None:
        requests = family(
            name="whisper_requests_total",
            description="Requests by what became of them",
            kind=counter,
        )
        audio = family(
            name="whisper_audio_seconds_total",
            description="Seconds of audio that were transcribed",
            kind=counter,
        )
        self._families = (requests, audio)  # a metric dies with its family
        self._requests = {
            outcome: requests.Metric(labels={"version": version, "outcome": outcome})
            for outcome in OUTCOMES
        }
        self._audio_s = audio.Metric(labels={"version": version})

    def count(self, outcome: Outcome, audio_s: float = 0.0) -> None:
        """Counts one request, and the audio that was transcribed for it."""
        self._requests[outcome].increment(1)
        if audio_s > 0:
            self._audio_s.increment(audio_s)
