"""A real Prometheus scrapes the running service: rules load, every dashboard's query has data."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
import yaml

from api.settings import PROJECT_ROOT
from deploy.grafana.build import FOLDER, render
from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import samples, silence, wav
from tests.live_audio import pcm

RULES = PROJECT_ROOT / "deploy" / "prometheus"
SCRAPES = 4
PATIENCE_S = 30.0
"""A rate needs two; rules see it one evaluation later."""


def dashboard_queries() -> list[tuple[str, str]]:
    found = []
    for name, content in render().items():
        for panel in json.loads(content)["panels"]:
            found += [(f"{name}: {panel['title']}", t["expr"]) for t in panel["targets"]]
    return found


def alert_expressions() -> list[tuple[str, str]]:
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return [(r["alert"], r["expr"]) for g in groups for r in g["rules"] if "alert" in r]


@pytest.fixture(scope="module")
def prometheus(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Prometheus with our own configuration, pointed at the running service, and some traffic."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES / "rules.yml")]
    api, triton = config["scrape_configs"]
    api["authorization"]["credentials_file"] = str(folder / "metrics_key")
    (folder / "metrics_key").write_text("a-key-that-nobody-asks-for")
    api["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
    triton["static_configs"] = [{"targets": [f"127.0.0.1:{service.triton_port('metrics')}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with _running(folder) as client:
        for number in range(SCRAPES):
            _use(service, number)
            time.sleep(1.2)
        yield client


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[httpx.Client]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://{_address(folder / 'log', process)}") as client:
            while client.get("/-/ready").status_code != 200:
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    while True:
        for line in log.read_text().splitlines():
            if "Listening on" in line:
                return line.split("address=")[-1].strip()
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


def _use(service: Service, number: int) -> None:
    """Something of everything that the figures tell of."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for recording in (SAMPLE.read_bytes(), wav(silence(2 + number))):
            client.post("/audio/analyze", files={"file": recording}).raise_for_status()
        assert client.post("/audio/analyze", files={"file": b"no audio"}).status_code == 400
    asyncio.run(_speak(f"{service.url.replace('http', 'ws')}/audio/stream"))


async def _speak(url: str) -> None:
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "config", "encoding": "s16le"}))
        await socket.send(pcm(samples(SAMPLE)[: 4 * 16_000]))
        await socket.send(json.dumps({"type": "end"}))
        async for message in socket:
            if json.loads(message)["type"] == "summary":
                return


def query(prometheus: httpx.Client, expression: str) -> list[Any]:
    answer = prometheus.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def seen(prometheus: httpx.Client, expression: str) -> list[Any]:
    """What a query shows as soon as it shows anything: on a busy machine scrapes are missed."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := query(prometheus, expression)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def test_both_endpoints_are_scraped(prometheus: httpx.Client) -> None:
    for job in ("voice-analytics", "triton"):
        assert seen(prometheus, f'up{{job="{job}"}} == 1')


@pytest.mark.parametrize("title, expression", dashboard_queries())
def test_every_panel_shows_something(prometheus: httpx.Client, title: str, expression: str) -> None:
    assert seen(prometheus, expression), f"{title}: {expression}"


@pytest.mark.parametrize("alert, expression", alert_expressions())
def test_every_alert_can_be_evaluated(
    prometheus: httpx.Client, alert: str, expression: str
) -> None:
    """And nothing is wrong for as long as an alert waits before it fires."""
    query(prometheus, expression)
    alerts = prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    assert (alert, "firing") not in {(a["labels"]["alertname"], a["state"]) for a in alerts}


def test_every_figure_in_rules_and_panels_exists(prometheus: httpx.Client) -> None:
    """An alert on a metric that nobody exposes would be quiet for ever."""
    known = set(prometheus.get("/api/v1/label/__name__/values").json()["data"])
    known |= set(prometheus.get("/api/v1/metadata").json()["data"])  # no sample yet, but declared
    expressions = [e for _, e in dashboard_queries() + alert_expressions()]
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    expressions += [r["expr"] for g in groups for r in g["rules"]]
    names = re.compile(r"\b(?:voice_analytics[_:]|nv_|triton:)[a-z0-9_:]+")
    asked = {name for expression in expressions for name in names.findall(expression)}
    assert asked and asked <= known


def test_the_dashboards_are_those_of_the_code() -> None:
    assert {p.name: p.read_text() for p in FOLDER.glob("*.json")} == render()


def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    """The configuration names the rules; the key's file is where compose mounts it."""
    config = (RULES / "prometheus.yml").read_text()
    compose = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())
    (secret,) = compose["services"]["prometheus"]["secrets"]
    assert f"/run/secrets/{secret}" in config
    key = tmp_path / "key"
    key.touch()
    copy = tmp_path / "prometheus.yml"
    copy.write_text(config.replace(f"/run/secrets/{secret}", str(key)))
    shutil.copy(RULES / "rules.yml", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules.yml" in done.stdout


def test_alerts_fire_when_they_should() -> None:
    """What each alert says of made-up figures: rules_test.yml."""
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"], cwd=RULES, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
