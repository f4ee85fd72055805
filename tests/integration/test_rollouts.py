"""Rolling out versions of the models under traffic: nobody gets an error or a mixed answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from websockets.asyncio.client import connect

from api.model_config import named_versions
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import wav
from tests.model_versions import (
    dying,
    garbling,
    publish,
    rotated_labels,
    unloadable,
    without_labels,
)

SPEECH = np.frombuffer(SAMPLE.read_bytes()[44:], "<i2").astype(np.float32)[: 16_000 * 4] / 32768
_numbers = itertools.count()

LENIENT = {"min_requests": 4, "agreement": None, "p95_ratio": None}
"""What a machine that runs other tests as well, and a version with other labels, can keep to."""


def recording(number: int | None = None) -> bytes:
    """The same speech, each time with other noise below the threshold of hearing."""
    seed = next(_numbers) if number is None else number
    noise = np.random.default_rng(seed).normal(0, 1e-4, len(SPEECH))
    return wav((SPEECH + noise).astype(np.float32))


class Rolling:
    """A service, and what an operator does to it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.repository = service.data_dir / "model_repository"

    def analyze(self, data: bytes) -> httpx.Response:
        return httpx.post(f"{self.service.url}/audio/analyze", files={"file": data}, timeout=120)

    def start(self, model: str, **body: Any) -> httpx.Response:
        url = f"{self.service.url}/models/{model}/rollouts"
        return httpx.post(url, json=body, timeout=60)

    def begun(self, model: str, **body: Any) -> int:
        answer = self.start(model, **body)
        assert answer.status_code == 202, answer.text
        return int(answer.json()["id"])

    def get(self, model: str, rollout: int) -> dict[str, Any]:
        answer = httpx.get(f"{self.service.url}/models/{model}/rollouts/{rollout}", timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until(self, model: str, rollout: int, *statuses: str, within_s: float = 90) -> Any:
        deadline = time.monotonic() + within_s
        while (found := self.get(model, rollout))["status"] not in statuses:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def model(self, name: str) -> dict[str, Any]:
        items = httpx.get(f"{self.service.url}/models", timeout=60).json()["items"]
        return next(item for item in items if item["name"] == name)

    def settled(self, model: str, versions: list[str], within_s: float = 60) -> None:
        """Wait until exactly these versions are loaded."""
        deadline = time.monotonic() + within_s
        while named_versions(self.repository, model) != versions:
            assert time.monotonic() < deadline, named_versions(self.repository, model)
            time.sleep(0.2)

    def metric(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.service.url}/metrics", timeout=60).text
        found = [
            line
            for line in text.splitlines()
            if line.startswith(name + "{")
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def told_version(answer: dict[str, Any]) -> str:
    """The emotion version that the answer's labels come from: one hears `neutral` as `angry`."""
    heard = {segment["emotion"]["label"] for segment in answer["segments"]}
    assert len(heard) == 1, heard
    return {"neutral": "1", "angry": "2"}[heard.pop()]


class Crowd:
    """Callers that ask on and on, and what they were told."""

    def __init__(self, rolling: Rolling, callers: int) -> None:
        self._rolling = rolling
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]
        self.wrong: list[str] = []
        self.versions: list[dict[str, str]] = []

    def _ask(self) -> None:
        while not self._over.is_set():
            answer = self._rolling.analyze(recording())
            if answer.status_code != 200:
                self.wrong.append(answer.text)
                continue
            content = answer.json()
            versions = {m: about["version"] for m, about in content["models"].items()}
            if told_version(content) != versions["emotion"]:
                self.wrong.append(f"{versions}: {content['emotions']}")
            if content["transcription"] != self.expected:
                self.wrong.append(content["transcription"])
            self.versions.append(versions)

    @contextmanager
    def asking(self) -> Iterator[Crowd]:
        self.expected = self._rolling.analyze(recording()).json()["transcription"]
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def check(self) -> None:
        assert self.versions
        assert self.wrong == []


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolling]:
    folder = tmp_path_factory.mktemp("rolling")
    with run_service(folder, WORKERS="2", WATCHDOG_INTERVAL="2") as service:
        yield Rolling(service)


def test_a_canary_walks_to_its_promotion_and_back_while_callers_notice_nothing(
    rolling: Rolling,
) -> None:
    publish(rolling.repository, "emotion", "2", rotated_labels)
    old = recording(-1 % 2**32)
    before = rolling.analyze(old).json()
    assert told_version(before) == "1"
    with Crowd(rolling, 6).asking() as crowd:
        rollout = rolling.begun(
            "emotion",
            version="2",
            steps=[30, 100],
            step_seconds=0,
            gates=LENIENT,
            auto_promote=True,
        )
        done = rolling.until("emotion", rollout, "promoted", "rolled_back", "failed")
        assert done["status"] == "promoted", done["reason"]
        rolling.settled("emotion", ["2"])
    crowd.check()
    assert {versions["emotion"] for versions in crowd.versions} == {"1", "2"}
    kinds = [event["kind"] for event in done["history"]]
    assert kinds == ["created", "golden", "started", "step", "promoted"]
    shown = rolling.model("emotion")
    assert (shown["version"], shown["checkpoint"]) == ("2", "copy-2")
    assert [v["state"] for v in shown["versions"]] == ["available", "serving"]

    # nothing stale after a promotion: the new version heard it anew, Whisper's text is the same
    after = rolling.analyze(old).json()
    assert told_version(after) == after["models"]["emotion"]["version"] == "2"
    assert after["segments"][0]["emotion"]["label"] != before["segments"][0]["emotion"]["label"]

    with Crowd(rolling, 6).asking() as crowd:
        url = f"{rolling.service.url}/models/emotion/rollouts/{rollout}"
        back = httpx.delete(url, timeout=60).json()
        assert back["version"] == "1"
        rolling.until("emotion", back["id"], "promoted")
        rolling.settled("emotion", ["1"])
    crowd.check()
    again = rolling.analyze(old).json()
    assert told_version(again) == again["models"]["emotion"]["version"] == "1"


def test_a_rollback_finds_what_was_cached_before(tmp_path: Path) -> None:
    """One worker: its memory is the only cache, so that what it finds is no matter of luck."""
    with run_service(tmp_path / "one", WATCHDOG_INTERVAL="60") as service:
        rolling = Rolling(service)
        publish(rolling.repository, "emotion", "2", rotated_labels)
        data = recording()
        assert rolling.analyze(data).json()["cache"]["emotion"] == "miss"
        for version in ("2", "1"):
            rollout = rolling.begun(
                "emotion",
                version=version,
                strategy="blue_green",
                gates=LENIENT,
                auto_promote=True,
            )
            rolling.until("emotion", rollout, "promoted")
            rolling.settled("emotion", [version])
            answer = rolling.analyze(data).json()
            outcome = "miss" if version == "2" else "hit"
            assert answer["cache"] == {**dict.fromkeys(answer["cache"], "hit"), "emotion": outcome}
            assert told_version(answer) == version


@pytest.mark.parametrize(
    "model, version, spoil, gate",
    [
        ("emotion", "3", unloadable, "load"),
        ("emotion", "4", without_labels, "files"),
        ("whisper", "3", dying, "golden"),
        ("whisper", "4", garbling, "golden"),
    ],
)
def test_a_version_that_does_not_work_gets_no_traffic(
    rolling: Rolling, model: str, version: str, spoil: Any, gate: str
) -> None:
    publish(rolling.repository, model, version, spoil)
    with Crowd(rolling, 2).asking() as crowd:
        rollout = rolling.begun(model, version=version, weight=50)
        failed = rolling.until(model, rollout, "failed", "running", "rolled_back")
        assert failed["status"] == "failed"
        rolling.settled(model, ["1"])
    crowd.check()
    assert failed["reason"]
    assert failed["history"][-1]["detail"]["gate"] == gate
    ended = {"model": model, "outcome": "failed", "gate": gate}
    assert rolling.metric("voice_analytics_rollouts_ended_total", **ended) >= 1


def test_a_file_that_was_changed_after_the_export_is_noticed(rolling: Rolling) -> None:
    folder = publish(rolling.repository, "emotion", "5")
    (folder / "labels.txt").write_text("happy\n")
    rollout = rolling.begun("emotion", version="5", weight=50)
    failed = rolling.until("emotion", rollout, "failed", "running")
    assert failed["status"] == "failed"
    assert "labels.txt" in failed["reason"]


def test_a_version_that_dies_under_traffic_is_rolled_back_and_nobody_notices(
    rolling: Rolling,
) -> None:
    if not (rolling.repository / "whisper" / "3").exists():
        publish(rolling.repository, "whisper", "3", dying)
    with Crowd(rolling, 4).asking() as crowd:
        rollout = rolling.begun(
            "whisper",
            version="3",
            weight=50,
            gates={**LENIENT, "min_requests": 50, "golden": False},
        )
        done = rolling.until("whisper", rollout, "rolled_back")
        rolling.settled("whisper", ["1"])
    crowd.check()
    assert {versions["whisper"] for versions in crowd.versions} == {"1"}
    assert done["history"][-1]["detail"]["gate"] == "error_rate"
    assert "requests failed" in done["reason"]
    told = {"model": "whisper", "version": "3", "outcome": "failed"}
    assert 1 <= rolling.metric("voice_analytics_model_answers_total", **told) <= 50


async def test_a_stream_whose_version_dies_goes_on_with_the_stable_one(rolling: Rolling) -> None:
    if not (rolling.repository / "whisper" / "3").exists():
        publish(rolling.repository, "whisper", "3", dying)
    gates = {**LENIENT, "min_requests": 1000, "error_rate": 0.5, "golden": False}
    begun = await asyncio.to_thread(
        lambda: rolling.begun("whisper", version="3", weight=100, gates=gates)
    )
    await asyncio.to_thread(lambda: rolling.until("whisper", begun, "running"))
    await asyncio.sleep(1.5)  # every worker has heard of it
    url = rolling.service.url.replace("http", "ws") + "/audio/stream"
    async with connect(url, max_size=None) as socket:
        await socket.send(json.dumps({"type": "config", "partials": False}))
        await socket.send((SPEECH * 32767).astype("<i2").tobytes())
        await socket.send('{"type": "end"}')
        events = [json.loads(message) async for message in socket]
    by_type = {event["type"]: event for event in events}
    assert by_type["summary"]["models"]["whisper"]["version"] == "1"
    words = " ".join(e["text"] for e in events if e["type"] == "final").split()
    assert words == by_type["summary"]["transcription"].split()
    assert words
    back = f"{rolling.service.url}/models/whisper/rollouts/{begun}/rollback"
    await asyncio.to_thread(httpx.post, back, timeout=60)
    await asyncio.to_thread(rolling.settled, "whisper", ["1"])


def test_a_shadow_answers_nobody_and_is_compared(rolling: Rolling) -> None:
    publish(rolling.repository, "speaker_embedding", "2")
    with Crowd(rolling, 2).asking() as crowd:
        rollout = rolling.begun(
            "speaker_embedding",
            version="2",
            strategy="shadow",
            gates={"min_requests": 5, "agreement": 0.99, "p95_ratio": None},
        )

        def compared() -> bool:
            figures = rolling.get("speaker_embedding", rollout)["figures"]
            return bool(figures and figures["compared"] >= 5)

        _eventually(compared)
    crowd.check()
    assert {versions["speaker_embedding"] for versions in crowd.versions} == {"1"}
    found = rolling.get("speaker_embedding", rollout)
    assert found["status"] == "running"
    assert found["figures"]["agreement"] > 0.999
    compared_metric = "voice_analytics_model_agreement_count"
    assert rolling.metric(compared_metric, model="speaker_embedding", version="2") >= 5

    # a version that vanishes from disk: the rollout ends and says why
    shutil.rmtree(rolling.repository / "speaker_embedding" / "2")
    done = rolling.until("speaker_embedding", rollout, "rolled_back")
    assert done["history"][-1]["detail"]["gate"] == "files"
    rolling.settled("speaker_embedding", ["1"])


def test_two_operators_at_once(rolling: Rolling) -> None:
    publish(rolling.repository, "speaker_embedding", "3")
    answers: list[httpx.Response] = []
    body = {"version": "3", "weight": 10, "gates": {"golden": False}}
    threads = [
        threading.Thread(target=lambda: answers.append(rolling.start("speaker_embedding", **body)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 5
    (begun,) = [answer.json() for answer in answers if answer.status_code == 202]
    seen = rolling.until("speaker_embedding", begun["id"], "running")
    url = f"{rolling.service.url}/models/speaker_embedding/rollouts/{begun['id']}"
    change = {"weight": 20, "revision": seen["revision"]}
    assert httpx.patch(url, json=change, timeout=60).json()["weight"] == 20
    refused = httpx.patch(url, json={**change, "weight": 30}, timeout=60)
    assert (refused.status_code, refused.json()["error"]) == (409, "Conflict")
    assert httpx.patch(url, json={"status": "paused"}, timeout=60).json()["status"] == "paused"
    assert httpx.patch(url, json={"status": "paused"}, timeout=60).status_code == 409
    assert httpx.patch(url, json={"status": "running"}, timeout=60).json()["status"] == "running"
    assert httpx.post(f"{url}/rollback", timeout=60).json()["status"] == "rolled_back"
    assert httpx.post(f"{url}/promote", timeout=60).status_code == 409
    assert httpx.get(f"{rolling.service.url}/models/nobody/rollouts").status_code == 404
    assert rolling.start("whisper", version="77").status_code == 404
    assert rolling.start("whisper", version="1").status_code == 409
    assert rolling.start("whisper", version="2", strategy="blue_green", weight=5).status_code == 422
    rolling.settled("speaker_embedding", ["1"])


def test_a_rollout_outlives_its_worker_triton_and_the_service(tmp_path: Path) -> None:
    data_dir = tmp_path / "hurt"
    with run_service(data_dir, WORKERS="2", WATCHDOG_INTERVAL="1") as service:
        rolling = Rolling(service)
        publish(rolling.repository, "emotion", "2", rotated_labels)
        rollout = rolling.begun("emotion", version="2", weight=50, gates=LENIENT)
        rolling.until("emotion", rollout, "running")
        for worker in _workers(service):
            worker.kill()
        _eventually(lambda: len(_workers(service)) == 2)
        os.kill(service.triton_pid(), signal.SIGKILL)
        _eventually(lambda: rolling.analyze(recording()).status_code == 200, within_s=60)
        assert rolling.get("emotion", rollout)["status"] == "running"
        _eventually(lambda: _answered_by(rolling, "2"), within_s=60)
    publish(rolling.repository, "emotion", "9", unloadable)  # appears, and nobody asked for it
    with run_service(data_dir, WORKERS="2", WATCHDOG_INTERVAL="1") as service:
        rolling = Rolling(service)
        assert rolling.get("emotion", rollout)["status"] == "running"
        _eventually(lambda: _answered_by(rolling, "2"), within_s=60)
        url = f"{service.url}/models/emotion/rollouts/{rollout}/promote"
        assert httpx.post(url, timeout=60).json()["status"] == "promoted"
        service.process.kill()  # nothing of what a promotion brings with it is done yet
        service.process.wait()
    with run_service(data_dir) as service:
        rolling = Rolling(service)
        answer = rolling.analyze(recording()).json()
        assert told_version(answer) == answer["models"]["emotion"]["version"] == "2"
        rolling.settled("emotion", ["2"])


def _workers(service: Service) -> list[psutil.Process]:
    children = psutil.Process(service.process.pid).children()
    alive = [c for c in children if c.status() != psutil.STATUS_ZOMBIE]
    return [c for c in alive if "spawn_main" in " ".join(c.cmdline())]


def _answered_by(rolling: Rolling, version: str) -> bool:
    answer = rolling.analyze(recording())
    return answer.status_code == 200 and told_version(answer.json()) == version


def _eventually(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except httpx.TransportError:  # the process that answered was just killed
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
