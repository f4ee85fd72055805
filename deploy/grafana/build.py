"""The dashboards as code: `python deploy/grafana/build.py` writes dashboards/*.json.

A panel is a title, a unit and its queries; the rest is the same for all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
COLUMNS = 24
HEIGHT = 8

Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One graph: `queries` maps a legend (Grafana's template) to a PromQL expression."""

    title: str
    unit: str
    queries: dict[str, str]
    width: int = 12
    description: str = ""
    is_number: bool = False


def quantile(share: float, metric: str, by: str) -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket[5m])))"


SERVICE = [
    Panel(
        "Requests a second",
        "reqps",
        {"now": "sum(rate(voice_analytics_requests_total[5m]))"},
        6,
        is_number=True,
    ),
    Panel(
        "Failing",
        "percentunit",
        {"now": "voice_analytics:errors:ratio5m"},
        6,
        is_number=True,
    ),
    Panel(
        "Audio analysed per second",
        "s",
        {"now": "voice_analytics:audio_seconds:rate5m"},
        6,
        is_number=True,
    ),
    Panel(
        "Analyses under way",
        "short",
        {"now": "sum(voice_analytics_analyses_in_flight)"},
        6,
        is_number=True,
    ),
    Panel(
        "Requests by route",
        "reqps",
        {"{{route}}": "sum by (route) (rate(voice_analytics_requests_total[5m]))"},
    ),
    Panel(
        "Errors by kind",
        "reqps",
        {"{{kind}}": "sum by (kind) (rate(voice_analytics_errors_total[5m]))"},
    ),
    Panel(
        "Time to answer an analysis",
        "s",
        {
            f"p{int(share * 100)}": quantile(share, "voice_analytics_request_seconds", "").replace(
                "_bucket[", '_bucket{route="/audio/analyze"}['
            )
            for share in (0.5, 0.95, 0.99)
        },
    ),
    Panel(
        "Time in each stage, p95",
        "s",
        {"{{stage}}": quantile(0.95, "voice_analytics_stage_seconds", "stage")},
    ),
    Panel("Cache hits", "percentunit", {"{{stage}}": "voice_analytics:cache_hits:ratio5m"}),
    Panel(
        "Quality flags",
        "cps",
        {"{{flag}}": "sum by (flag) (rate(voice_analytics_quality_flags_total[5m]))"},
    ),
    Panel("Jobs", "short", {"{{status}}": "sum by (status) (voice_analytics_jobs)"}),
    Panel(
        "Oldest waiting job",
        "s",
        {"waits": "max(voice_analytics_oldest_job_seconds)"},
    ),
    Panel("Live streams", "short", {"open": "sum(voice_analytics_streams)"}),
    Panel(
        "From an utterance's end to its final words",
        "s",
        {"p95": quantile(0.95, "voice_analytics_utterance_seconds", "")},
    ),
    Panel(
        "How late the event loop comes to what is due",
        "s",
        {
            f"p{100 * share:g}": quantile(share, "voice_analytics_event_loop_lag_seconds", "")
            for share in (0.5, 0.99, 0.999)
        },
        description="Above 20 ms something blocks a worker, and with it everybody it serves.",
    ),
]

TRITON = [
    Panel(
        "Waiting per computing",
        "short",
        {"{{model}}": "triton:queue_ratio:rate1m"},
        description="Above 1 a request waits longer than it is worked on; replicas are added.",
    ),
    Panel("Mean batch", "short", {"{{model}}": "triton:mean_batch:rate5m"}),
    Panel(
        "Inferences a second",
        "cps",
        {"{{model}} {{version}}": "sum by (model, version) (rate(nv_inference_count[5m]))"},
    ),
    Panel(
        "Waiting requests",
        "short",
        {"{{model}}": "sum by (model) (nv_inference_pending_request_count)"},
    ),
    Panel(
        "Compute per inference",
        "µs",
        {
            "{{model}}": (
                "sum by (model) (rate(nv_inference_compute_infer_duration_us[5m]))"
                " / sum by (model) (rate(nv_inference_count[5m]))"
            )
        },
    ),
    Panel(
        "Failures",
        "cps",
        {"{{model}} {{reason}}": "sum by (model, reason) (rate(nv_inference_request_failure[5m]))"},
    ),
    Panel(
        "Model answers its canary",
        "bool",
        {"{{model}}": "min by (model) (voice_analytics_model_ready)"},
    ),
    Panel("Shared memory left", "bytes", {"free": "min(voice_analytics_shared_memory_free_bytes)"}),
    Panel(
        "Releases that serve",
        "short",
        {
            "{{model}} {{version}} of {{checkpoint}}": (
                "max by (model, version, checkpoint) (voice_analytics_model_info)"
            )
        },
        24,
    ),
]

DASHBOARDS = {
    "service": ("voice-analytics: service", SERVICE),
    "triton": ("voice-analytics: Triton", TRITON),
}


def dashboard(uid: str, title: str, panels: list[Panel]) -> Json:
    """Grafana's JSON model; panels fill rows from left to right."""
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        height = 4 if panel.is_number else HEIGHT
        if x + panel.width > COLUMNS:
            x, y = 0, y + height
        placed.append(_panel(number, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
        x += panel.width
        if x == COLUMNS:
            x, y = 0, y + height
    return {
        "uid": f"voice-analytics-{uid}",
        "title": title,
        "tags": ["voice-analytics"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": placed,
    }


def _panel(number: int, panel: Panel, place: Json) -> Json:
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": number,
        "type": "stat" if panel.is_number else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": source,
                "expr": query,
                "legendFormat": legend,
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def render() -> dict[str, str]:
    """Each dashboard's file name and content."""
    return {
        f"{uid}.json": json.dumps(dashboard(uid, title, panels), indent=2, ensure_ascii=False)
        + "\n"
        for uid, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for name, content in render().items():
        (FOLDER / name).write_text(content)
        print(FOLDER / name)
