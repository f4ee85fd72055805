"""Prometheus metrics of the API; correct over many workers when `share` was called before them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from api.repository import ENSEMBLE
from api.types import ModelRelease

_SHARED_DIR = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
_FACTORS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 2, 5, 10)
_METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


def share(directory: Path) -> None:
    """Let the worker processes that are started from now on keep their figures in one folder."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.environ[_SHARED_DIR] = str(directory)


class Metrics:
    """One instance per app, so that two apps in one process don't share their figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "voice_analytics_requests",
            "Requests answered",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "voice_analytics_request_seconds",
            "Time to answer a request",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "voice_analytics_stage_seconds",
            "Time that an analysis spent in one stage",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.real_time_factor = Histogram(
            "voice_analytics_real_time_factor",
            "Time that an analysis took, per second of its audio; jobs aside",
            buckets=_FACTORS,
            registry=self.registry,
        )
        self.model_requests = Gauge(
            "voice_analytics_model_requests_in_flight",
            "Requests that Triton has and hasn't answered, waiting ones included",
            ["model"],
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.event_loop_lag = Histogram(
            "voice_analytics_event_loop_lag_seconds",
            "How late a worker's event loop came to what was due",
            buckets=_LAGS,
            registry=self.registry,
        )
        self.audio_seconds = Counter(
            "voice_analytics_audio_seconds",
            "Seconds of audio analysed",
            registry=self.registry,
        )
        self.errors = Counter(
            "voice_analytics_errors", "Errors answered, by kind", ["kind"], registry=self.registry
        )
        self.limited = Counter(
            "voice_analytics_rate_limited",
            "Requests refused because a key's own bound was reached: rate or concurrent",
            ["caller", "bound"],
            registry=self.registry,
        )
        self.limit_failures = Counter(
            "voice_analytics_limit_failures",
            "Requests that Redis or the files of a machine could not count",
            ["kind"],
            registry=self.registry,
        )
        self.quality_flags = Counter(
            "voice_analytics_quality_flags",
            "Analyses that carry a quality flag",
            ["flag"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "voice_analytics_analyses_in_flight",
            "Analyses under way",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.cache_lookups = Counter(
            "voice_analytics_cache_lookups",
            "Values asked of the cache, by stage and by where they came from",
            ["stage", "outcome"],
            registry=self.registry,
        )
        self.cache_failures = Counter(
            "voice_analytics_cache_failures",
            "Calls to Redis that failed: away, refused, heard too late, or unreadable",
            ["kind"],
            registry=self.registry,
        )
        self.cache_bytes = Gauge(
            "voice_analytics_cache_bytes",
            "Bytes that the cache holds in memory",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.streams = Gauge(
            "voice_analytics_streams",
            "Live streams, those waiting for a lost client included",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.streams_ended = Counter(
            "voice_analytics_streams_ended",
            "Live streams that are over: summed up, empty, or failed",
            ["outcome"],
            registry=self.registry,
        )
        self.streams_resumed = Counter(
            "voice_analytics_streams_resumed",
            "Connections that took up an earlier live stream",
            registry=self.registry,
        )
        self.utterance_seconds = Histogram(
            "voice_analytics_utterance_seconds",
            "Time from an utterance's detected end to its final transcript",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.model_ready = Gauge(
            "voice_analytics_model_ready",
            "1 where a model answered at the last look, else 0",
            ["model"],
            multiprocess_mode="livemin",
            registry=self.registry,
        )
        self.shared_memory_free = Gauge(
            "voice_analytics_shared_memory_free_bytes",
            "Shared memory left where the API runs; the embedded Triton's models use it",
            multiprocess_mode="livemin",
            registry=self.registry,
        )
        self.jobs = Gauge(
            "voice_analytics_jobs",
            "Jobs that wait and that run, of all workers",
            ["status"],
            multiprocess_mode="mostrecent",
            registry=self.registry,
        )
        self.oldest_job_seconds = Gauge(
            "voice_analytics_oldest_job_seconds",
            "How long the oldest of the waiting jobs has waited",
            multiprocess_mode="mostrecent",
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "voice_analytics_jobs_ended",
            "Jobs that succeeded, failed or were cancelled",
            ["status"],
            registry=self.registry,
        )
        self.webhook_deliveries = Counter(
            "voice_analytics_webhook_deliveries",
            "Attempts to deliver a webhook, delivered or failed",
            ["outcome"],
            registry=self.registry,
        )
        self.model_info = Gauge(
            "voice_analytics_model_info",
            "The releases that serve: 1; those that did: 0",
            ["model", "version", "checkpoint"],
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )

        self.model_answers = Counter(
            "voice_analytics_model_answers",
            "Analyses and live utterances that a version took part in, or failed to",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "voice_analytics_model_seconds",
            "Time that one call of a model took, its queue included",
            ["model", "version"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.model_calls_failed = Counter(
            "voice_analytics_model_calls_failed",
            "Calls of a model that were not answered",
            ["model", "version"],
            registry=self.registry,
        )
        self.model_calls_repeated = Counter(
            "voice_analytics_model_calls_repeated",
            "Calls that met a Triton that was away, waited and were made again",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.model_weight = Gauge(
            "voice_analytics_model_weight",
            "Share of traffic that a version is to answer, in percent",
            ["model", "version"],
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.model_agreement = Histogram(
            "voice_analytics_model_agreement",
            "Agreement of a version on trial with the stable one: 1 is the same answer",
            ["model", "version"],
            buckets=(0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1),
            registry=self.registry,
        )
        self.copies_dropped = Counter(
            "voice_analytics_rollout_copies_dropped",
            "Requests that were not copied to the other version, for want of room",
            ["model", "version"],
            registry=self.registry,
        )
        self.rollouts_ended = Counter(
            "voice_analytics_rollouts_ended",
            "Rollouts that are over, by outcome and by what ended them: a gate, or an operator",
            ["model", "outcome", "gate"],
            registry=self.registry,
        )
        self._described: dict[str, ModelRelease] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is a template and never a path, of which there is no end."""
        named = method if method in _METHODS else "other"
        self.requests.labels(route, named, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def describe_models(self, releases: Mapping[str, ModelRelease]) -> None:
        """Publish which release of each model serves."""
        for model, release in releases.items():
            before = self._described.get(model)
            if before is not None:
                self.model_info.labels(model, before.version, before.checkpoint).set(0)
            self.model_info.labels(model, release.version, release.checkpoint).set(1)
        self._described = dict(releases)
        if _SHARED_DIR in os.environ:
            _reserve(Path(os.environ[_SHARED_DIR]))

    def weigh_models(self, weights: Mapping[tuple[str, str], int]) -> None:
        """Publish the share of traffic of each version of each model, in percent."""
        for (model, version), weight in weights.items():
            self.model_weight.labels(model, version).set(weight)

    def model_called(self, model: str, version: str, seconds: float, answered: bool) -> None:
        """Count a call of a model; the name of an ensemble says what its steps are pinned to."""
        model = _named(model)
        self.model_seconds.labels(model, version).observe(seconds)
        if not answered:
            self.model_calls_failed.labels(model, version).inc()

    def model_answered(self, model: str, version: str) -> None:
        self.model_answers.labels(model, version, "answered").inc()

    def model_failed(self, model: str, version: str) -> None:
        self.model_answers.labels(model, version, "failed").inc()

    def versions_compared(self, model: str, version: str, agreement: float) -> None:
        self.model_agreement.labels(model, version).observe(agreement)

    def copy_dropped(self, model: str, version: str) -> None:
        self.copies_dropped.labels(model, version).inc()

    def rollout_ended(self, model: str, outcome: str, gate: str) -> None:
        self.rollouts_ended.labels(model, outcome, gate).inc()

    def models_looked_at(self, models: Mapping[str, bool]) -> None:
        for model, is_well in models.items():
            self.model_ready.labels(model).set(is_well)
        with contextlib.suppress(OSError):
            self.shared_memory_free.set(shutil.disk_usage("/dev/shm").free)

    def cache_looked_up(self, stage: str, outcome: str) -> None:
        self.cache_lookups.labels(stage, outcome).inc()

    def cache_failed(self, kind: str) -> None:
        self.cache_failures.labels(kind).inc()

    def cache_size(self, size_bytes: int) -> None:
        self.cache_bytes.set(size_bytes)

    def asking(self, model: str, more: int) -> None:
        self.model_requests.labels(_named(model)).inc(more)

    def asked_again(self, model: str, answered: bool) -> None:
        outcome = "answered" if answered else "failed"
        self.model_calls_repeated.labels(_named(model), outcome).inc()

    def rate_limited(self, caller: str, bound: str) -> None:
        self.limited.labels(caller, bound).inc()

    def limits_failed(self, kind: str) -> None:
        self.limit_failures.labels(kind).inc()

    def render(self) -> tuple[bytes, str]:
        """The exposition over all workers, and its content type."""
        registry = self.registry
        if _SHARED_DIR in os.environ:
            registry = CollectorRegistry()
            _bury_the_dead(Path(os.environ[_SHARED_DIR]))
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _bury_the_dead(folder: Path) -> None:
    """A killed worker has nothing in flight any more; its counters still count."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _named(model: str) -> str:
    """An ensemble exists for each combination of versions: they count as one model."""
    return ENSEMBLE if model.startswith(f"{ENSEMBLE}_") else model


def _reserve(folder: Path) -> None:
    """Take the room of this worker's files at once: they are mapped into memory and mostly holes,
    and a worker that writes into a hole while the disk is full is killed (SIGBUS)."""
    for path in folder.glob(f"*_{os.getpid()}.db"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
