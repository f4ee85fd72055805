"""/audio/analyses: over SQLite with one worker, and over PostgreSQL with several."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import SAMPLE, Service, run_service
from tests.integration.audio_files import digits, wav
from tests.integration.databases import run_postgres
from tests.integration.test_analyze import analyse, refused
from tests.integration.test_resilience import eventually, start_expecting_failure


@pytest.fixture(params=["sqlite", "postgresql"])
def caller(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    if request.param == "sqlite":
        url = request.getfixturevalue("service").url
    else:
        url = request.getfixturevalue("production").service.url
    with httpx.Client(base_url=url, timeout=120) as http:
        yield http


def page(caller: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = caller.get("/audio/analyses", params=query)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    assert set(content) == {"items", "next_cursor"}
    return content


def test_what_was_answered_is_kept_until_it_is_deleted(caller: httpx.Client) -> None:
    made = analyse(caller, SAMPLE.read_bytes())
    path = f"/audio/analyses/{made['id']}"
    assert caller.get(path).json() == made
    (item,) = [i for i in page(caller, limit=100)["items"] if i["id"] == made["id"]]
    assert item == {
        "id": made["id"],
        "created_at": made["created_at"],
        "duration": made["duration"],
        "language": made["language"],
        "transcription": made["transcription"],
        "speakers": len(made["speakers"]),
        "emotions": made["emotions"],
    }
    assert caller.delete(path).status_code == 204
    for answer in (caller.get(path), caller.delete(path), caller.get(f"{path}/export?format=srt")):
        assert refused(answer, 404)["error"] == "NotFound"
    assert made["id"] not in [i["id"] for i in page(caller, limit=100)["items"]]


def test_speakers_are_called_by_the_names_that_a_person_gives(caller: httpx.Client) -> None:
    made = analyse(caller, SAMPLE.read_bytes())
    path = f"/audio/analyses/{made['id']}"
    renamed = caller.patch(path, json={"speakers": {"SPEAKER_00": " Anna "}})
    assert renamed.status_code == 200, renamed.text
    expected = json.loads(json.dumps(made).replace('"SPEAKER_00"', '"Anna"'))
    assert renamed.json() == caller.get(path).json() == expected
    assert "<v Anna>" in caller.get(f"{path}/export?format=vtt").text
    for names in ({"SPEAKER_00": "Ben"}, {"Anna": "SPEAKER_01"}, {"Anna": "\n"}, {}):
        assert refused(caller.patch(path, json={"speakers": names}), 422)
    assert caller.get(path).json() == expected
    assert refused(caller.patch(f"{path[:-1]}!", json={"speakers": {"Anna": "B"}}), 404)


def test_pages_and_filters(caller: httpx.Client) -> None:
    made = [analyse(caller, wav(digits()[n % 3])) for n in range(4)]
    made.append(analyse(caller, SAMPLE.read_bytes()))
    since = made[0]["created_at"]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        content = page(caller, limit=2, created_after=since, **cursor)
        seen += [item["id"] for item in content["items"]]
        if content["next_cursor"] is None:
            break
        cursor = {"cursor": content["next_cursor"]}
    assert seen == [m["id"] for m in reversed(made)]
    two = page(caller, created_after=since, speakers=2)["items"]
    assert made[-1]["id"] in [item["id"] for item in two]
    assert all(item["speakers"] == 2 for item in two)
    emotion, *_ = made[-1]["emotions"]
    assert made[-1]["id"] in [
        i["id"] for i in page(caller, created_after=since, emotion=emotion, language="en")["items"]
    ]
    assert page(caller, text="these words nobody said")["items"] == []
    assert page(caller, created_before="2001-01-01")["items"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "cursor=nonsense", "colour=red", "created_after=yesterday", "speakers=x"]
)
def test_wrong_queries_are_refused(caller: httpx.Client, query: str) -> None:
    answer = caller.get(f"/audio/analyses?{query}")
    assert refused(answer, 422)["error"] in ("ValidationError", "InvalidOption")


@pytest.mark.parametrize("query", ["text=%00", "emotion=%00", "language=%00", "text=%25_%5C"])
def test_strange_queries_find_nothing(caller: httpx.Client, query: str) -> None:
    assert caller.get(f"/audio/analyses?{query}").status_code == 200


@pytest.mark.parametrize("analysis_id", ["none", "%00", "a%2Fb", "x" * 3000])
def test_strange_ids_are_not_found(caller: httpx.Client, analysis_id: str) -> None:
    refused(caller.get(f"/audio/analyses/{analysis_id}"), 404)


@pytest.mark.parametrize(
    "name, media_type, pattern",
    [
        ("srt", "application/x-subrip", r"1\n00:00:0.*\nSPEAKER_00: [a-z]"),
        ("vtt", "text/vtt", r"WEBVTT\n\n00:00:0.*\n<v SPEAKER_00>"),
        ("tsv", "text/tab-separated-values", r"start\tend\tspeaker\ttext\n\d+\t\d+\tSPEAKER_00\t"),
        ("txt", "text/plain", r"SPEAKER_00: [a-z]"),
        ("rttm", "text/plain", r"SPEAKER [0-9a-f]{32} 1 \d.* SPEAKER_00 "),
        ("html", "text/html", r"<!doctype html>"),
        ("json", "application/json", r"\{"),
    ],
)
def test_exports(caller: httpx.Client, name: str, media_type: str, pattern: str) -> None:
    made = analyse(caller, SAMPLE.read_bytes())
    answer = caller.get(f"/audio/analyses/{made['id']}/export", params={"format": name})
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == media_type
    assert answer.headers["content-disposition"] == f'attachment; filename="{made["id"]}.{name}"'
    assert re.match(pattern, answer.text)
    if name == "json":
        assert answer.json() == made
    refused(caller.get(f"/audio/analyses/{made['id']}/export?format=docx"), 422)
    refused(caller.get(f"/audio/analyses/{made['id']}/export"), 422)


def test_a_locked_database_is_a_503_and_nothing_is_half_written(
    service: Service, client: httpx.Client
) -> None:
    file = service.data_dir / "voice_analytics.db"
    before = page(client, limit=1)["items"]
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = client.post("/audio/analyze", files={"file": SAMPLE.read_bytes()})
        assert refused(answer, 503)["error"] == "StoreUnavailable"
        assert int(answer.headers["retry-after"]) >= 1
        other.execute("ROLLBACK")
        assert page(client, limit=1)["items"] == before
        orphans = "SELECT count(*) FROM segments WHERE analysis_id NOT IN (SELECT id FROM analyses)"
        assert other.execute(orphans).fetchone() == (0,)
    made = analyse(client, SAMPLE.read_bytes())
    assert client.get(f"/audio/analyses/{made['id']}").status_code == 200


def test_an_answered_analysis_survives_kill_9(tmp_path: Path) -> None:
    with run_service(tmp_path) as service, httpx.Client(base_url=service.url, timeout=60) as http:
        made = analyse(http, SAMPLE.read_bytes())
        service.process.kill()
        service.process.wait()
    with run_service(tmp_path) as service, httpx.Client(base_url=service.url, timeout=60) as http:
        assert http.get(f"/audio/analyses/{made['id']}").json() == made


def test_a_service_may_start_before_its_database(tmp_path: Path) -> None:
    with run_postgres() as server:
        url = server.new_database()
        server.kill()
        with (
            run_service(tmp_path, DATABASE_URL=url, WORKERS="2") as service,
            httpx.Client(base_url=service.url, timeout=60) as http,
        ):
            answer = http.post("/audio/analyze", files={"file": SAMPLE.read_bytes()})
            assert refused(answer, 503)["error"] == "StoreUnavailable"
            refused(http.get("/audio/analyses"), 503)
            server.start()
            eventually(lambda: http.get("/audio/analyses").status_code == 200, within_s=20)
            made = analyse(http, SAMPLE.read_bytes())
            assert [item["id"] for item in page(http)["items"]] == [made["id"]]
            assert "Traceback" not in service.log


@pytest.mark.parametrize(
    "name, value", [("DATABASE_URL", "mysql://host/name"), ("REDIS_URL", "http://host")]
)
def test_a_wrong_url_is_named_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    assert name in start_expecting_failure(tmp_path, PORT="0", **{name: value})


def test_the_schema_of_a_newer_release_is_a_reason_not_to_start(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "voice_analytics.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    assert "9999" in start_expecting_failure(tmp_path, PORT="0")


async def test_workers_that_share_a_sqlite_file_lose_nothing_in_a_crowd(tmp_path: Path) -> None:
    """SQLite has one write lock; held over turns of a busy event loop it starved the others."""
    data = wav(digits()[0])
    with run_service(tmp_path, WORKERS="4") as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:

            async def ask() -> str:
                answer = await http.post("/audio/analyze", files={"file": data})
                assert answer.status_code == 200, answer.text
                return str(answer.json()["id"])

            made = await asyncio.gather(*(ask() for _ in range(64)))
            kept = (await http.get("/audio/analyses", params={"limit": 100})).json()["items"]
        assert sorted(item["id"] for item in kept) == sorted(made)
        assert "store_unavailable" not in service.log
