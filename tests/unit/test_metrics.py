"""What is counted is documented, labels stay few, and a killed worker leaves no ghost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from api.metrics import Metrics, share
from api.settings import PROJECT_ROOT


def _own() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Type and labels by name, as the exposition has them."""
    found = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, tuple(metric._labelnames))
    return found


def _documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    text = (PROJECT_ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(voice_analytics_\w+)` \| (\w+) \|([^|]*)\|", text, flags=re.M)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented_and_what_is_documented_exists() -> None:
    assert _documented() == _own()


def test_a_made_up_method_is_no_new_series() -> None:
    figures = Metrics()
    for number in range(50):
        figures.answered("/health", f"METHOD{number}", 405, 0.01)
    lines = figures.render()[0].decode().splitlines()
    assert [x for x in lines if x.startswith("voice_analytics_requests_total{")] == [
        'voice_analytics_requests_total{method="other",route="/health",status="405"} 50.0'
    ]


_WORKER = """
import sys
from api.metrics import Metrics
figures = Metrics()
figures.in_flight.inc(3)
figures.audio_seconds.inc(5)
if sys.argv[1] == "look":
    print(figures.render()[0].decode())
"""


def test_a_killed_workers_counters_stay_and_its_gauges_go(tmp_path: Path) -> None:
    """A gauge that nobody takes back would show work in flight for ever."""
    before = dict(os.environ)
    share(tmp_path / "metrics")
    shared = dict(os.environ)
    os.environ.clear()
    os.environ.update(before)

    def work(what: str) -> str:
        command = [sys.executable, "-c", _WORKER, what]
        return subprocess.run(
            command, cwd=PROJECT_ROOT, env=shared, check=True, capture_output=True, text=True
        ).stdout

    work("die")  # without a word, and so without the chance to tidy up
    seen = work("look")
    assert "voice_analytics_analyses_in_flight 3.0" in seen
    assert "voice_analytics_audio_seconds_total 10.0" in seen
