"""A service whose models are rolled out, its operator, and callers who must notice nothing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from api.model_config import named_versions
from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import wav

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

    def __init__(self, service: Service, repository: Path | None = None) -> None:
        self.service = service
        self.repository = repository or service.data_dir / "model_repository"

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
        assert not self.wrong, self.wrong[:5]


def answered_by(rolling: Rolling, version: str) -> bool:
    answer = rolling.analyze(recording())
    return answer.status_code == 200 and told_version(answer.json()) == version


def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if holds():
                return
        except httpx.TransportError:  # the process that answered was just killed
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
