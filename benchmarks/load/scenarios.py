"""What can be run, as data: clips, load, and who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Closed:
    """So many clients, each of which asks again as soon as it is answered."""

    clients: int

    @property
    def name(self) -> str:
        return f"{self.clients} client{'s' * (self.clients > 1)}"


@dataclass(frozen=True)
class Open:
    """Requests at a constant rate, whether or not the answers keep up."""

    rate_per_s: float

    @property
    def name(self) -> str:
        return f"{self.rate_per_s:g} requests/s"


Load = Closed | Open

WORDS_ONLY: Final = {
    "language": "en",
    "diarize": "false",
    "emotions": "false",
    "word_timestamps": "false",
}
"""What the transcription engines do too: text with segments, in a given language."""


@dataclass(frozen=True)
class Scenario:
    """One benchmark.

    Attributes:
        what: one sentence for lists and reports.
        lengths_s: shortest and longest clip.
        requests: how many clips each run of each load sends; the same ones to everybody.
        loads: run one after the other against the same process.
        weights: a set that `prepare` makes, "bundled", or "as deployed" where --url says where.
        peers: names of benchmarks/peers that take turns with the service, A B C A B C …
        rounds: how often everybody's turn comes.
        warm_up: requests before the first measured one of each process.
        options: form fields of POST /audio/analyze.
        settings: the service's environment where the command starts it.
        probe_health: ask GET /health ten times a second during each run.
        windows_s, batch: for leaf models: windows of this length in batches of this size go to
            `model` straight through Triton's HTTP endpoint.
    """

    name: str
    what: str
    lengths_s: tuple[float, float] = (2.0, 30.0)
    requests: int = 96
    loads: tuple[Load, ...] = (Closed(16),)
    weights: str = "bundled"
    peers: tuple[str, ...] = ()
    rounds: int = 3
    warm_up: int = 8
    options: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    probe_health: bool = True
    model: str | None = None
    windows_s: float = 0.0
    batch: int = 0


TRANSCRIBERS: Final = (
    "faster-whisper-1x2",
    "faster-whisper-2x1",
    "faster-whisper-batched",
    "openai-whisper",
    "transformers-fp32",
    "transformers-bf16",
    "whisper-cpp",
    "in-process-fastapi",
)
"""Everybody who writes words, each in its best setting; see benchmarks/peers."""

_SWEEP: Final = tuple(Closed(clients) for clients in (1, 2, 4, 8, 16, 32, 64, 128, 256))
_ROOMY: Final = {"WORKERS": "1", "MAX_CONCURRENT_REQUESTS": "256"}

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "smoke",
            "a few seconds, to see that everything works",
            lengths_s=(1.0, 3.0),
            requests=6,
            loads=(Closed(2), Open(2.0)),
            rounds=1,
            warm_up=1,
        ),
        Scenario(
            "words-16",
            "16 clients, mixed clips, words only, Whisper base int8: throughput against all peers",
            weights="base",
            peers=TRANSCRIBERS,
            options=WORDS_ONLY,
            settings=_ROOMY,
        ),
        Scenario(
            "words-1",
            "one client, 10 s clips, words only, Whisper base int8: latency against all peers",
            lengths_s=(10.0, 10.0),
            requests=20,
            loads=(Closed(1),),
            weights="base",
            peers=TRANSCRIBERS,
            warm_up=3,
            options=WORDS_ONLY,
            settings=_ROOMY,
        ),
        Scenario(
            "words-16-tiny",
            "as words-16 with Whisper tiny",
            weights="tiny",
            peers=TRANSCRIBERS,
            options=WORDS_ONLY,
            settings=_ROOMY,
        ),
        Scenario(
            "words-16-small",
            "as words-16 with Whisper small, fewer clips",
            requests=32,
            weights="small",
            peers=("faster-whisper-1x2", "faster-whisper-2x1", "faster-whisper-batched"),
            warm_up=4,
            options=WORDS_ONLY,
            settings=_ROOMY,
        ),
        Scenario(
            "clients",
            "everything an analysis holds, bundled weights, 1 to 256 clients",
            loads=_SWEEP,
            requests=256,
            settings=_ROOMY,
        ),
        Scenario(
            "clients-base",
            "words only, Whisper base int8, 1 to 256 clients",
            loads=_SWEEP,
            requests=96,
            rounds=1,
            weights="base",
            options=WORDS_ONLY,
            settings=_ROOMY,
        ),
        Scenario(
            "rates",
            "everything an analysis holds, bundled weights, constant arrival rates",
            lengths_s=(10.0, 10.0),
            loads=tuple(Open(rate) for rate in (1.0, 2.0, 4.0, 6.0, 8.0, 12.0)),
            requests=120,
            settings=_ROOMY,
        ),
        Scenario(
            "long",
            "one client, recordings of 10 s to 5 minutes: cost per second of audio",
            lengths_s=(10.0, 300.0),
            requests=10,
            loads=(Closed(1),),
            settings=_ROOMY,
        ),
        Scenario(
            "emotion-windows",
            "batches of 8 windows of 2 s for wav2vec2-base, straight to Triton",
            loads=(Closed(1), Closed(4)),
            requests=60,
            peers=("transformers-emotion",),
            weights="leaves",
            model="emotion",
            windows_s=2.0,
            batch=8,
            probe_health=False,
        ),
        Scenario(
            "speaker-windows",
            "batches of 16 windows of 1.5 s for ECAPA-1024, straight to Triton",
            loads=(Closed(1), Closed(4)),
            requests=60,
            peers=("speechbrain-speaker",),
            weights="leaves",
            model="speaker_embedding",
            windows_s=1.5,
            batch=16,
            probe_health=False,
        ),
        Scenario(
            "gpu",
            "for a service on a GPU, given by --url: 1 to 256 clients, mixed clips, words only",
            loads=_SWEEP,
            requests=1024,
            warm_up=64,
            weights="as deployed",
            options=WORDS_ONLY,
        ),
        Scenario(
            "gpu-rates",
            "for a service on a GPU, given by --url: constant arrival rates, everything",
            loads=tuple(Open(rate) for rate in (5.0, 10.0, 20.0, 40.0, 80.0)),
            requests=1024,
            warm_up=64,
            weights="as deployed",
        ),
    )
}
