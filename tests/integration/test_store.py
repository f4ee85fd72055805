"""The store over a real SQLite file and a real PostgreSQL: the same tests on both."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from api.errors import InvalidOption, NotFound
from api.schemas import to_response
from api.store import tables
from api.store.analyses import AnalysisFilter, AnalysisStore, Page
from api.store.database import Database
from api.store.retention import keep_for
from tests.analyses import analysis
from tests.integration.databases import EVERYTHING, ids, rows

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


async def test_what_was_saved_comes_back_whole(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=["Größe: 100 % <ok> \U0001f600 'a\"b\\"], emotions=["happy"])
    await store.save(saved)
    found = await store.get("a1")
    assert found == saved
    assert list(found.segments[0].emotion.scores) == ["happy", "neutral"]  # type: ignore[union-attr]
    (item,) = (await store.list(EVERYTHING, limit=5)).items
    assert (item.id, item.created_at, item.duration) == ("a1", saved.created_at, saved.duration)
    assert item.transcription == saved.transcription
    assert (item.speakers, item.emotions) == (1, ("happy",))


async def test_an_analysis_of_an_earlier_release_can_still_be_read(
    store: AnalysisStore, database: Database
) -> None:
    """What came later has a default; a body without it is no unreadable analysis."""
    await store.save(analysis("a1", emotions=["happy"]))
    later = {
        "conversation": (
            "talk_share interruptions_by turn_lengths longest_monologue response_time loudness"
        ),
        "quality": "missed repetition snr_db clipped_share",
    }

    def age(connection: sa.Connection) -> None:
        body = json.loads(connection.scalar(sa.select(tables.analyses.c.body)) or "")
        del body["emotion_curves"], body["envelope"]
        for part, names in later.items():
            for name in names.split():
                del body[part][name]
        for turn in body["turns"]:
            del turn["emotion"]
        connection.execute(sa.update(tables.analyses).values(body=json.dumps(body)))

    await database.write(age)
    found = await store.get("a1")
    assert found.conversation.talk_time == {"SPEAKER_00": 1.5}
    assert not (found.quality.missed or found.emotion_curves or found.envelope)
    assert to_response(found).conversation.longest_monologue is None


async def test_an_analysis_without_speech(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=[], language=None)
    await store.save(saved)
    assert await store.get("a1") == saved


async def test_text_that_postgres_cannot_hold(store: AnalysisStore) -> None:
    saved = analysis("a1", texts=["nul \0 inside"])
    await store.save(saved)
    assert await store.get("a1") == saved
    assert await ids(store, AnalysisFilter(text="nul \0 inside")) == ["a1"]


async def test_saving_twice_changes_nothing(store: AnalysisStore, database: Database) -> None:
    """A job that is run again after a crash must not be in the store twice."""
    await store.save(analysis("a1", texts=["one", "two"]))
    before = await rows(database)
    await store.save(analysis("a1", texts=["another"]))
    assert await rows(database) == before == {"analyses": 1, "segments": 2, "speakers": 1}
    assert (await store.get("a1")).transcription == "one two"


async def test_speakers_get_other_names(store: AnalysisStore, database: Database) -> None:
    """Also each other's: two rows that trade a key would meet in the middle."""
    await store.save(analysis("a1", texts=["one", "two"], speakers=2))
    await store.save(analysis("a2", texts=["one", "two"], speakers=2))
    untouched = await store.get("a2")
    swapped = {"SPEAKER_00": "SPEAKER_01", "SPEAKER_01": "SPEAKER_00"}
    renamed = await store.rename_speakers("a1", swapped)
    assert await store.get("a1") == renamed
    assert [segment.speaker for segment in renamed.segments] == ["SPEAKER_01", "SPEAKER_00"]
    assert await store.rename_speakers("a1", {"SPEAKER_01": "Anna"}) == await store.get("a1")
    assert await store.get("a2") == untouched
    columns = tables.segments.c
    query = sa.select(columns.speaker).where(columns.analysis_id == "a1").order_by(columns.position)
    kept = await database.read(lambda connection: connection.scalars(query).all())
    assert kept == ["Anna", "SPEAKER_00"]
    with pytest.raises(InvalidOption):
        await store.rename_speakers("a1", {"SPEAKER_01": "Ben"})
    with pytest.raises(NotFound):
        await store.rename_speakers("a3", {"SPEAKER_01": "Ben"})


async def test_names_given_at_once_are_all_kept(store: AnalysisStore) -> None:
    """Both read the analysis before either wrote it: the later one would undo the earlier."""
    await store.save(analysis("a1", texts=["one", "two", "three"], speakers=3))
    given = {f"SPEAKER_{n:02}": name for n, name in enumerate(("Ann", "Ben", "Cem"))}
    await asyncio.gather(
        *(store.rename_speakers("a1", {speaker: name}) for speaker, name in given.items())
    )
    assert [speaker.id for speaker in (await store.get("a1")).speakers] == ["Ann", "Ben", "Cem"]


async def test_deleting_takes_all_rows(store: AnalysisStore, database: Database) -> None:
    await store.save(analysis("a1", texts=["one", "two"]))
    await store.delete("a1")
    assert set((await rows(database)).values()) == {0}
    with pytest.raises(NotFound):
        await store.delete("a1")
    with pytest.raises(NotFound):
        await store.get("a1")


@pytest.mark.parametrize("strange", ["", "a\0b", "x" * 10_000, "'; DROP TABLE analyses; --", "ä%_"])
async def test_strange_ids_are_not_found(store: AnalysisStore, strange: str) -> None:
    with pytest.raises(NotFound):
        await store.get(strange)
    with pytest.raises(NotFound):
        await store.delete(strange)


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (AnalysisFilter(), ["c", "b", "a"]),
        (AnalysisFilter(text="ÖLTANK"), ["b"]),
        (AnalysisFilter(text="100%"), ["b"]),
        (AnalysisFilter(text="1_0"), []),
        (AnalysisFilter(text="%"), ["b"]),
        (AnalysisFilter(text="\\"), ["c"]),
        (AnalysisFilter(min_speakers=2), ["c"]),
        (AnalysisFilter(max_speakers=1), ["b", "a"]),
        (AnalysisFilter(min_speakers=1, max_speakers=1), ["b", "a"]),
        (AnalysisFilter(emotion="angry"), ["c", "a"]),
        (AnalysisFilter(emotion="ang"), []),
        (AnalysisFilter(language="de"), ["b"]),
        (AnalysisFilter(created_after=NOON), ["c", "b"]),
        (AnalysisFilter(created_before=NOON), ["a"]),
        (AnalysisFilter(created_after=NOON, emotion="angry", text="SEVEN"), ["c"]),
        (
            AnalysisFilter(created_after=NOON.astimezone(timezone(timedelta(hours=5)))),
            ["c", "b"],
        ),
    ],
)
async def test_filters(store: AnalysisStore, wanted: AnalysisFilter, expected: list[str]) -> None:
    second = timedelta(seconds=1)
    a = analysis("a", texts=["one two"], emotions=["angry"], created_at=NOON - second)
    b = analysis("b", texts=["100% Öltank"], language="de", created_at=NOON)
    c = analysis(
        "c",
        texts=["Seven\\", "Eight"],
        emotions=["sad", "angry"],
        speakers=2,
        created_at=NOON + second,
    )
    for one in (b, a, c):
        await store.save(one)
    assert await ids(store, wanted) == expected


async def test_pages_neither_repeat_nor_miss_while_others_are_saved(store: AnalysisStore) -> None:
    """Pages by offset shift when something new comes first; a cursor stays where it was."""
    made = [NOON + timedelta(microseconds=n // 3) for n in range(20)]  # many at the same moment
    for number, moment in enumerate(made):
        await store.save(analysis(f"id{number:02}", created_at=moment))
    seen: list[str] = []
    cursor = None
    for page_number in itertools.count():
        page: Page = await store.list(EVERYTHING, limit=6, cursor=cursor)
        seen += [item.id for item in page.items]
        await store.save(analysis(f"new{page_number}", created_at=NOON + timedelta(days=1)))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"id{n:02}" for n in reversed(range(20))]
    assert page_number == 3


async def test_the_last_page_has_no_next(store: AnalysisStore) -> None:
    for number in range(4):
        await store.save(analysis(f"a{number}"))
    page = await store.list(EVERYTHING, limit=4)
    assert len(page.items) == 4
    assert page.next_cursor is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "ä",
        "!!!!",
        "bm8gY3Vyc29y",
        "MjAyNi0wMS0wMSBh",
        "AAAA",
        "MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OSBh",
    ],
)
async def test_a_strange_cursor_is_refused(store: AnalysisStore, cursor: str) -> None:
    with pytest.raises(InvalidOption):
        await store.list(EVERYTHING, limit=5, cursor=cursor)


async def test_retention_deletes_what_is_too_old(store: AnalysisStore, database: Database) -> None:
    now = datetime.now(timezone.utc)
    for number in range(405):  # more than are deleted in one transaction, twice
        await store.save(analysis(f"old{number}", created_at=now - timedelta(days=31)))
    await store.save(analysis("young", created_at=now - timedelta(days=29)))
    task = asyncio.create_task(keep_for(store, 30, interval_s=0.05))
    try:
        await _until_only(store, "young")
        await store.save(analysis("later", created_at=now - timedelta(days=40)))
        await _until_only(store, "young")
    finally:
        task.cancel()
    assert await rows(database) == {"analyses": 1, "segments": 1, "speakers": 1}


async def _until_only(store: AnalysisStore, analysis_id: str) -> None:
    for _ in range(400):
        if await ids(store) == [analysis_id]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("The old ones are still there")


async def test_simultaneous_writers_all_get_through(store: AnalysisStore) -> None:
    await asyncio.gather(*(store.save(analysis(f"a{n}", texts=["x"] * 20)) for n in range(64)))
    assert len(await ids(store)) == 64


async def test_a_cancelled_save_leaves_nothing_half_written(
    store: AnalysisStore, database: Database
) -> None:
    """Callers hang up at any moment; the connection must come back clean."""
    await store.save(analysis("first"))
    for number in range(40):
        task = asyncio.create_task(store.save(analysis(f"a{number}", texts=["x"] * 50)))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.save(analysis("last"))
    counted = await rows(database)
    whole = counted["analyses"] - 2
    assert counted["segments"] == 2 + whole * 50
    assert counted["speakers"] == counted["analyses"]
