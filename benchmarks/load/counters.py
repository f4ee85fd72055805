"""Counters that the service and Triton publish, read before and after a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

Counters = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def read(client: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> Counters:
    """Every sample of an exposition, by name without `_total` (parsers differ there) and labels.

    Raises:
        httpx.HTTPError: it can't be read.
    """
    response = await client.get(url, headers=dict(headers))
    response.raise_for_status()
    return {
        (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@dataclass(frozen=True)
class Growth:
    """What counters grew by during a run."""

    before: Counters
    after: Counters

    def by(self, name: str, label: str) -> dict[str, float]:
        """Growth of a counter by the value of one label, summed over all others."""
        grown: dict[str, float] = {}
        for (sample, labels), value in self.after.items():
            if sample == name:
                kind = dict(labels).get(label, "")
                change = value - self.before.get((sample, labels), 0.0)
                grown[kind] = grown.get(kind, 0.0) + change
        return grown


def triton_figures(growth: Growth) -> dict[str, dict[str, float]]:
    """By model: inferences, executions, mean batch, and milliseconds per request.

    `queue` is the wait in Triton's batcher, `compute` the execution of the whole batch that the
    request was part of, `input` and `output` the copies around it.
    """
    requests = growth.by("nv_inference_request_success", "model")
    inferences = growth.by("nv_inference_count", "model")
    executions = growth.by("nv_inference_exec_count", "model")
    parts = {
        "queue": "nv_inference_queue_duration_us",
        "input": "nv_inference_compute_input_duration_us",
        "compute": "nv_inference_compute_infer_duration_us",
        "output": "nv_inference_compute_output_duration_us",
    }
    spent = {part: growth.by(name, "model") for part, name in parts.items()}
    return {
        model: {
            "inferences": inferences[model],
            "executions": executions[model],
            "mean_batch": round(inferences[model] / executions[model], 2),
            **{
                f"{part}_ms": round(spent[part].get(model, 0.0) / 1000 / count, 2) for part in spent
            },
        }
        for model, count in requests.items()
        if count > 0 and executions.get(model, 0) > 0
    }


def service_figures(growth: Growth) -> dict[str, Any]:
    """The service's own view: seconds of audio, seconds by stage, errors by kind, how late its
    event loop was, cache hits."""
    return {
        "audio_s": growth.by("voice_analytics_audio_seconds", "").get("", 0.0),
        "stage_s": _nonzero(growth.by("voice_analytics_stage_seconds_sum", "stage")),
        "errors": _nonzero(growth.by("voice_analytics_errors", "kind")),
        "event_loop_lag_s": _quantiles(
            growth.by("voice_analytics_event_loop_lag_seconds_bucket", "le")
        ),
        "cache_hits": growth.by("voice_analytics_cache_lookups", "outcome").get("hit", 0.0),
    }


def _quantiles(buckets: Mapping[str, float]) -> dict[str, float] | None:
    """What p50, p99, p99.9 and the most of a histogram are at most: bounds of its buckets, in its
    unit; None where nothing was counted."""
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    if not bounds or not bounds[-1][1]:
        return None
    total = bounds[-1][1]
    return {
        name: next(bound for bound, count in bounds if count >= share * total)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
    }


def _nonzero(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items() if value}
