"""What the tests of jobs share: recordings that no cache knows, and waiting for ends."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np

from api.types import SAMPLE_RATE_HZ
from tests.integration.audio_files import digits, silence, wav

Job = dict[str, Any]


def talk(seconds: float, seed: int) -> bytes:
    """Digits by several people with pauses, in an order and with a noise of its own: a WAV."""
    rng = np.random.default_rng(seed)
    clips, parts, count = digits(), [], 0
    while count < seconds * SAMPLE_RATE_HZ:
        parts += [clips[rng.integers(len(clips))], silence(rng.uniform(0.3, 1.0))]
        count += len(parts[-1]) + len(parts[-2])
    samples = np.concatenate(parts)
    return wav(samples + rng.normal(0.0, 1e-4, len(samples)).astype(np.float32))


def submit(client: httpx.Client, audio: bytes, key: str | None = None, **fields: str) -> Job:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client.post("/audio/jobs", files={"file": audio}, data=fields, headers=headers)
    assert answer.status_code == 202, answer.text
    job: Job = answer.json()
    assert answer.headers["Location"] == f"/audio/jobs/{job['id']}"
    return job


def ended(
    client: httpx.Client,
    ids: Sequence[str],
    within_s: float = 120.0,
    states: Collection[str] = ("succeeded", "failed", "cancelled"),
) -> list[Job]:
    """The jobs, once all are in one of the states; the service may be away in between."""
    deadline = time.monotonic() + within_s
    found: dict[str, Job] = {}
    while len(found) < len(ids):
        assert time.monotonic() < deadline, f"{len(found)} of {len(ids)} jobs: {found}"
        for job_id in set(ids) - set(found):
            try:
                answer = client.get(f"/audio/jobs/{job_id}")
            except httpx.TransportError:
                continue
            if answer.status_code == 200 and answer.json()["status"] in states:
                found[job_id] = answer.json()
        time.sleep(0.1)
    return [found[job_id] for job_id in ids]


def analyses(client: httpx.Client) -> list[str]:
    """Ids of all analyses that are kept."""
    items, cursor = [], None
    while True:
        query = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/audio/analyses", params=query).json()
        items += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


class Receiver(ThreadingHTTPServer):
    """Takes webhooks; answers the first ones as told, and all others with 200."""

    daemon_threads = True

    def __init__(self, *first: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answers = list(first)
        self.received: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook?a=b"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((headers | {"path": self.path}, body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def receiving(*first: int, port: int = 0) -> Iterator[Receiver]:
    with Receiver(*first, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
