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

from api.types import ModelRelease

_SHARED_DIR = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
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
            "The releases that serve; always 1",
            ["model", "version", "checkpoint"],
            multiprocess_mode="livemax",
            registry=self.registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is a template and never a path, of which there is no end."""
        named = method if method in _METHODS else "other"
        self.requests.labels(route, named, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def describe_models(self, releases: Mapping[str, ModelRelease]) -> None:
        """Publish which release of each model serves."""
        for model, release in releases.items():
            self.model_info.labels(model, release.version, release.checkpoint).set(1)

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
        self.model_requests.labels(model).inc(more)

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
