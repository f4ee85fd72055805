"""Jobs over the whole service: accepted once, watched, cancelled, announced."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api.triton import TritonControl
from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import silence, wav
from tests.integration.jobs import analyses, ended, receiving, submit, talk

SECRET = "not a secret"
LONGEST_S = 400.0


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may call webhooks on this machine."""
    with run_service(
        tmp_path_factory.mktemp("jobs"),
        WEBHOOK_SECRET=SECRET,
        WEBHOOK_ALLOW_PRIVATE="true",
        WEBHOOK_RETRY_SECONDS="0.1",
        MAX_JOB_LENGTH=str(LONGEST_S),
        MAX_JOB_UPLOAD_BYTES="20000000",
        MAX_UPLOAD_BYTES="1000000",
        WATCHDOG_INTERVAL="600",  # its canaries would be counted as inferences
    ) as running:
        yield running


@pytest.fixture
def client(jobs: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=jobs.url, timeout=60) as http:
        yield http


def words(answer: dict[str, Any]) -> list[Any]:
    return [(s["start"], s["end"], s["text"], s["speaker"]) for s in answer["segments"]]


def test_a_job_finds_what_a_request_finds(client: httpx.Client, jobs: Service) -> None:
    job = submit(client, SAMPLE.read_bytes())
    assert (job["status"], job["progress"], job["webhook"]) == ("queued", 0.0, None)
    (found,) = ended(client, [job["id"]])
    assert (found["status"], found["progress"], found["error"]) == ("succeeded", 1.0, None)
    kept = client.get(f"/audio/analyses/{found['analysis_id']}").json()
    asked = client.post("/audio/analyze", files={"file": SAMPLE.read_bytes()}).json()
    assert words(kept) == words(asked) != []
    assert list((jobs.data_dir / "jobs").iterdir()) == [], "the upload goes with its job"
    assert 'voice_analytics_jobs_ended_total{status="succeeded"}' in client.get("/metrics").text


def test_a_key_makes_one_job_of_many_requests(client: httpx.Client) -> None:
    audio = talk(5, 1)
    with ThreadPoolExecutor(8) as crowd:
        found = list(crowd.map(lambda _: submit(client, audio, "key-1")["id"], range(8)))
    assert len(set(found)) == 1
    for other, fields in ((talk(5, 2), {}), (audio, {"num_speakers": "2"})):
        answer = client.post(
            "/audio/jobs",
            files={"file": other},
            data=fields,
            headers={"Idempotency-Key": "key-1"},
        )
        assert (answer.status_code, answer.json()["error"]) == (409, "Conflict")
        assert answer.json()["details"]["job_id"] == found[0]
    assert submit(client, audio, "key-2")["id"] != found[0]


def told(client: httpx.Client, job_id: str, seen: str | None = None) -> list[dict[str, Any]]:
    """The events up to the end of the stream."""
    headers = {} if seen is None else {"Last-Event-ID": seen}
    events: list[dict[str, Any]] = []
    event: dict[str, Any] = {}
    with client.stream("GET", f"/audio/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if not line:
                events.append(event)
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = json.loads(value) if name == "data" else value
    return events


def test_progress_is_told_until_the_end(client: httpx.Client) -> None:
    job_id = submit(client, talk(120, 3))["id"]
    events = told(client, job_id)
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    shares = [event["data"]["progress"] for event in events]
    assert shares == sorted(shares)
    assert any(0.0 < share < 1.0 for share in shares), "not only at both ends"
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-1]["event"] == events[-1]["data"]["status"] == "succeeded"
    stages = {event["data"]["stage"] for event in events} - {None}
    assert stages <= set(
        "decode vad whisper speaker_embedding clustering overlap emotion assembly".split()
    )
    (last,) = told(client, job_id, seen=events[-2]["id"])
    assert last == events[-1]
    over = client.get(f"/audio/jobs/{job_id}/events", headers={"Last-Event-ID": events[-1]["id"]})
    assert over.status_code == 204


def test_a_cancelled_job_stops_in_triton(client: httpx.Client, jobs: Service) -> None:
    running, queued = (submit(client, talk(390, seed))["id"] for seed in (4, 5))
    with TritonControl(f"127.0.0.1:{jobs.triton_port('grpc')}") as triton:
        deadline = time.monotonic() + 60
        before = triton.executions("whisper")
        while triton.executions("whisper") == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.delete(f"/audio/jobs/{queued}").status_code == 204
        assert client.delete(f"/audio/jobs/{running}").status_code == 204
        states = [client.get(f"/audio/jobs/{job_id}").json() for job_id in (running, queued)]
        assert [state["status"] for state in states] == ["cancelled", "cancelled"]
        wait_until_still(triton)
        assert states[0]["progress"] < 0.9
    assert client.delete(f"/audio/jobs/{running}").status_code == 204, "again changes nothing"
    assert not {running, queued} & set(analyses(client))
    short = submit(client, talk(3, 6))["id"]
    ended(client, [short])
    assert client.delete(f"/audio/jobs/{short}").status_code == 409
    assert client.delete("/audio/jobs/unknown").status_code == 404
    assert list((jobs.data_dir / "jobs").iterdir()) == []


def wait_until_still(triton: TritonControl, within_s: float = 20.0) -> None:
    """Until no model has run anything for two seconds; with the rest of the job it would go on."""
    models = ("whisper", "emotion", "speaker_embedding")
    deadline = time.monotonic() + within_s
    before: list[int] = []
    while True:
        now = [triton.executions(model) for model in models]
        if now == before:
            return
        assert time.monotonic() < deadline, "the cancelled work goes on"
        before = now
        time.sleep(2)


def test_what_can_never_succeed_fails_at_once(client: httpx.Client) -> None:
    for upload, status in ((b"", 400), (b"no audio", 400), (b"#EXTM3U\n", 415)):
        answer = client.post("/audio/jobs", files={"file": upload})
        assert (answer.status_code, answer.json()["error"]) == (status, "ValidationError")
    broken = submit(client, b"RIFF\x00\x00\x00\x00WAVE" + bytes(2000))["id"]
    endless = submit(client, wav(silence(LONGEST_S + 1)))["id"]
    of_broken, of_endless = ended(client, [broken, endless], within_s=60)
    assert of_broken["status"] == of_endless["status"] == "failed"
    assert of_broken["error"]["error"] == "ValidationError"
    assert of_endless["error"]["details"] == {"limit_s": LONGEST_S}
    assert of_broken["analysis_id"] is None


def test_jobs_take_more_than_requests_but_not_all(client: httpx.Client) -> None:
    audio = wav(silence(60))  # 1.9 MB
    assert client.post("/audio/analyze", files={"file": audio}).status_code == 413
    ended(client, [submit(client, audio)["id"]])
    assert client.post("/audio/jobs", files={"file": bytes(21_000_000)}).status_code == 413


def test_jobs_are_listed_in_pages(client: httpx.Client) -> None:
    made = [submit(client, talk(2, seed))["id"] for seed in range(20, 23)]
    ended(client, made)
    found, cursor = [], None
    while True:
        query = {"limit": "2", "status": "succeeded"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/audio/jobs", params=query).json()
        assert len(page["items"]) <= 2
        found += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [job_id for job_id in found if job_id in made] == made[::-1]
    assert len(found) == len(set(found))
    for query in ({"status": "done"}, {"cursor": "x"}, {"limit": "0"}, {"page": "1"}):
        assert client.get("/audio/jobs", params=query).status_code == 422


def settled(client: httpx.Client, job_id: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        job: dict[str, Any] = client.get(f"/audio/jobs/{job_id}").json()
        if job["webhook"]["status"] == status:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.1)


def test_a_webhook_is_signed_and_tried_again(client: httpx.Client) -> None:
    with receiving(500, 302) as receiver:
        job = submit(client, talk(3, 7), webhook_url=receiver.url)
        assert job["webhook"] == {"status": "waiting", "attempts": 0}
        found = settled(client, job["id"], "delivered")
    assert found["webhook"]["attempts"] == len(receiver.received) == 3
    for headers, body in receiver.received:
        assert headers["path"] == "/hook?a=b", "redirects are not followed"
        assert headers["host"] == f"localhost:{receiver.server_port}"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120
        event = json.loads(body)
        assert event["type"] == "job.succeeded"
        assert event["data"]["id"] == event["data"]["analysis_id"] == job["id"]
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1


def test_failed_and_cancelled_jobs_are_announced_too(client: httpx.Client) -> None:
    with receiving(410) as receiver:
        gone = submit(client, wav(silence(LONGEST_S + 1)), webhook_url=receiver.url)["id"]
        settled(client, gone, "failed")  # 410: nobody wants to know, so nobody is asked again
        cancelled = submit(client, talk(390, 8), webhook_url=receiver.url)["id"]
        assert client.delete(f"/audio/jobs/{cancelled}").status_code == 204
        settled(client, cancelled, "delivered")
    types = [json.loads(body)["type"] for _, body in receiver.received]
    assert types == ["job.failed", "job.cancelled"]


def test_webhooks_stay_where_they_may_go(service: Service, client: httpx.Client) -> None:
    """Without a secret there are none, and without leave none to this machine."""
    audio = talk(2, 9)
    refused = httpx.post(
        f"{service.url}/audio/jobs",
        files={"file": audio},
        data={"webhook_url": "https://example.com/"},
    )
    assert refused.status_code == 422
    assert "WEBHOOK_SECRET" in refused.json()["details"]["webhook_url"]
    for url in ("ftp://localhost/", "http://user:word@localhost/", "nonsense"):
        answer = client.post("/audio/jobs", files={"file": audio}, data={"webhook_url": url})
        assert answer.status_code == 422, url
