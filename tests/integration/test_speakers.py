"""/speakers: a voice is enrolled, recognised, renamed and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from api.errors import Conflict, InvalidOption, NotFound
from api.speaker_profiles import SpeakerTake
from api.store.database import Database
from api.store.profiles import MOST_TAKES, ProfileStore
from api.store.tables import speaker_takes
from tests.conftest import SAMPLE, Service
from tests.integration.audio_files import CLIPS, samples, silence, wav
from tests.integration.databases import PostgresServer
from tests.integration.live_stream import SPEECH_PCM, frames, of, whole
from tests.integration.test_analyze import analyse, refused

RATE = 16_000


def spoken_by(speaker: str, analysis: dict[str, Any]) -> NDArray[np.float32]:
    """What one speaker says in the sample."""
    whole = samples(SAMPLE)
    return np.concatenate(
        [
            whole[round(turn["start"] * RATE) : round(turn["end"] * RATE)]
            for turn in analysis["turns"]
            if turn["speaker"] == speaker
        ]
    )


def enrol(http: httpx.Client, name: str, *recordings: bytes) -> httpx.Response:
    files = [("file", (f"{n}.wav", data)) for n, data in enumerate(recordings)]
    return http.post("/speakers", data={"name": name}, files=files)


def enrolled(http: httpx.Client, name: str, *recordings: bytes) -> dict[str, Any]:
    answer = enrol(http, name, *recordings)
    assert answer.status_code == 201, answer.text
    profile: dict[str, Any] = answer.json()
    return profile


def names(analysis: dict[str, Any]) -> set[str]:
    assert {s["id"] for s in analysis["speakers"]} == {t["speaker"] for t in analysis["turns"]}
    return {speaker["id"] for speaker in analysis["speakers"]}


def test_an_enrolled_voice_is_recognised_until_it_is_forgotten(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        before = analyse(http, SAMPLE.read_bytes())
        assert names(before) == {"SPEAKER_00", "SPEAKER_01"}
        assert before["diarization"] == {
            "found": 2,
            "num_speakers": None,
            "min_speakers": None,
            "max_speakers": None,
            "known_voices": 0,
        }
        voice = wav(spoken_by("SPEAKER_01", before))
        profile = enrolled(http, "Theo", voice, voice)
        try:
            assert (profile["name"], profile["usable"], len(profile["takes"])) == ("Theo", True, 2)
            assert profile["takes"][0]["speech"] > 3

            named = analyse(http, SAMPLE.read_bytes())
            assert names(named) == {"SPEAKER_00", "Theo"}
            assert {w["speaker"] for s in named["segments"] for w in s["words"]} == names(named)
            stranger, theo = named["speakers"]
            assert stranger["identity"] is None
            assert theo["identity"]["profile_id"] == profile["id"]
            assert theo["identity"]["likeness"] > 0.8
            assert named["diarization"]["known_voices"] == 1
            anonymous = analyse(http, SAMPLE.read_bytes(), identify_speakers="false")
            assert names(anonymous) == {"SPEAKER_00", "SPEAKER_01"}

            path = f"/speakers/{profile['id']}"
            assert http.patch(path, json={"name": "Theodor"}).json()["name"] == "Theodor"
            assert http.get(path).json()["name"] == "Theodor"
            assert "Theodor" in names(analyse(http, SAMPLE.read_bytes()))
            more = http.post(f"{path}/takes", files={"file": ("a.wav", voice)})
            assert (more.status_code, len(more.json()["takes"])) == (201, 3)
            assert profile["id"] in [s["id"] for s in http.get("/speakers").json()["items"]]
        finally:
            assert http.delete(f"/speakers/{profile['id']}").status_code == 204
        assert names(analyse(http, SAMPLE.read_bytes())) == {"SPEAKER_00", "SPEAKER_01"}
        assert refused(http.get(f"/speakers/{profile['id']}"), 404)["error"] == "NotFound"


def test_a_live_stream_knows_an_enrolled_voice(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        voice = wav(spoken_by("SPEAKER_01", analyse(http, SAMPLE.read_bytes())))
        profile = enrolled(http, "Theo", voice, voice)
        try:
            events = asyncio.run(whole(service, frames(SPEECH_PCM)))
            (summary,) = of(events, "summary")
            assert names(summary) == {"SPEAKER_00", "Theo"}
            heard = [(e["start"], e["end"], e["speaker"]) for e in of(events, "final")]
            by_theo = [(t["start"], t["end"]) for t in summary["turns"] if t["speaker"] == "Theo"]
            named = [(start, end) for start, end, who in heard if who == "Theo"]
            assert named, "nobody was recognised while they spoke"
            assert all(any(a < end and start < b for a, b in by_theo) for start, end in named)
            anonymous = asyncio.run(whole(service, frames(SPEECH_PCM), identify_speakers=False))
            assert "Theo" not in {e["speaker"] for e in of(anonymous, "final")}
            assert names(of(anonymous, "summary")[0]) == {"SPEAKER_00", "SPEAKER_01"}
        finally:
            assert http.delete(f"/speakers/{profile['id']}").status_code == 204


def test_what_is_no_voice_is_refused_and_leaves_nothing(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        short = (CLIPS / "digit_theo.wav").read_bytes()
        for recording in (short, wav(silence(5))):
            told = refused(enrol(http, "Anna", recording), 422)
            assert told["details"]["min_speech_s"] == 3.0
        both = refused(enrol(http, "Anna", SAMPLE.read_bytes()), 422)
        assert both["details"]["voices"] == 2
        assert refused(enrol(http, "Anna", b"no audio"), 400)["error"]
        for name in ("", " ", "SPEAKER_03", "unknown", "a\0b", "x" * 101):
            refused(enrol(http, name, short), 422)
        refused(http.post("/speakers", data={"name": "Anna"}), 422)
        refused(http.get("/speakers", params={"cursor": "?"}), 422)
        for answer in (
            http.get("/speakers/none"),
            http.delete("/speakers/none"),
            http.patch("/speakers/none", json={"name": "Anna"}),
            http.post("/speakers/none/takes", files={"file": ("a.wav", short)}),
        ):
            refused(answer, 404)
        assert "Anna" not in [s["name"] for s in http.get("/speakers").json()["items"]]


@pytest.mark.parametrize("wanted", [1, 3])
def test_the_number_of_speakers_is_kept_and_echoed(service: Service, wanted: int) -> None:
    with httpx.Client(base_url=service.url, timeout=120) as http:
        analysis = analyse(http, SAMPLE.read_bytes(), num_speakers=str(wanted))
        assert len(names(analysis)) == analysis["diarization"]["found"] == wanted
        assert analysis["diarization"]["num_speakers"] == wanted
        assert all(0 < turn["confidence"] <= 1 for turn in analysis["turns"])
        words = [word for segment in analysis["segments"] for word in segment["words"]]
        assert words and all(0 < word["speaker_confidence"] <= 1 for word in words)
        assert (wanted == 1) == all(word["speaker_confidence"] == 1 for word in words)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'speakers.db'}"
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.new_database()
    opened = Database(url, timeout_s=10)
    yield opened
    await opened.close()


@pytest.fixture
def profiles(database: Database) -> ProfileStore:
    return ProfileStore(database)


def take() -> SpeakerTake:
    embedding = np.arange(4, dtype=np.float32) / np.sqrt(np.float32(14))
    moment = datetime.now(timezone.utc)
    return SpeakerTake(uuid4().hex, moment, 4.5, 5, embedding, "f" * 64, "1", "bundled")


async def test_what_is_kept_comes_back_and_goes_for_good(
    database: Database, profiles: ProfileStore
) -> None:
    made = await profiles.create("Zoë", [take(), take()])
    found = await profiles.get(made.id)
    assert replace(found, takes=()) == replace(made, takes=())
    assert sorted(t.id for t in found.takes) == sorted(t.id for t in made.takes)
    for kept, given in zip(
        sorted(found.takes, key=lambda t: t.id),
        sorted(made.takes, key=lambda t: t.id),
        strict=True,
    ):
        assert kept == given
        assert np.array_equal(kept.embedding, given.embedding)
    await profiles.delete(made.id)
    assert await profiles.all() == []
    left = sa.select(sa.func.count()).select_from(speaker_takes)
    assert await database.read(lambda connection: connection.scalar(left)) == 0
    with pytest.raises(NotFound):
        await profiles.delete(made.id)


async def test_a_name_is_nobody_elses(profiles: ProfileStore) -> None:
    """Two speakers of one name would be one in every analysis."""
    first, second = await profiles.create("Ann", [take()]), await profiles.create("Bea", [take()])
    with pytest.raises(Conflict):
        await profiles.create("Ann", [take()])
    with pytest.raises(Conflict):
        await profiles.rename(second.id, "Ann")
    assert (await profiles.rename(first.id, "Ann")).name == "Ann"
    assert [p.name for p in await profiles.all()] == ["Ann", "Bea"]


async def test_pages_lose_and_repeat_nobody(profiles: ProfileStore) -> None:
    made = [(await profiles.create(f"voice {n}", [take()])).id for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = await profiles.list(limit=2, cursor=cursor)
        seen += [profile.id for profile in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        await profiles.create(f"late {len(seen)}", [take()])
    assert seen == made[::-1]
    with pytest.raises(InvalidOption):
        await profiles.list(limit=2, cursor="no cursor")


async def test_takes_are_bounded_also_when_they_come_at_once(profiles: ProfileStore) -> None:
    made = await profiles.create("Ann", [take() for _ in range(MOST_TAKES - 3)])
    outcomes = await asyncio.gather(
        *(profiles.add(made.id, [take(), take()]) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 2
    assert len((await profiles.get(made.id)).takes) == MOST_TAKES - 1
