"""Analyses: saved, found again, listed in pages, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from api.errors import NotFound
from api.renaming import rename_speakers
from api.store.bodies import from_text, to_text
from api.store.cursors import from_cursor, to_cursor
from api.store.database import Database
from api.store.tables import analyses, segments, speakers
from api.types import Analysis

_DELETED_AT_ONCE = 200
"""Old analyses per transaction: SQLite has one writer, and it must not hold up the others."""


@dataclass(frozen=True)
class AnalysisFilter:
    """Which analyses to list; None leaves a side open."""

    created_after: datetime | None = None
    """The earliest moment, itself included."""
    created_before: datetime | None = None
    """The moment before which they were made."""
    text: str | None = None
    """Somewhere in the transcription, in any case."""
    min_speakers: int | None = None
    max_speakers: int | None = None
    emotion: str | None = None
    """Of at least one segment."""
    language: str | None = None


@dataclass(frozen=True)
class AnalysisSummary:
    """What a list says of an analysis."""

    id: str
    created_at: datetime
    duration: float
    language: str | None
    transcription: str
    speakers: int
    emotions: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Newest first; `next_cursor` is None on the last page."""

    items: tuple[AnalysisSummary, ...]
    next_cursor: str | None


class AnalysisStore:
    """Every method raises `StoreUnavailable` when the database is absent, locked or full."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, analysis: Analysis) -> None:
        """Keep an analysis, whole or not at all; saving the same id again changes nothing."""
        await self._database.write(await asyncio.to_thread(insertion, analysis))

    async def get(self, analysis_id: str) -> Analysis:
        """
        Raises:
            NotFound: there is none by that id.
        """
        query = sa.select(analyses.c.body).where(analyses.c.id == _known_form(analysis_id))
        body = await self._database.read(lambda connection: connection.scalar(query))
        if body is None:
            raise _unknown(analysis_id)
        return await asyncio.to_thread(from_text, body)

    async def rename_speakers(self, analysis_id: str, names: Mapping[str, str]) -> Analysis:
        """Call its speakers by other names, for whoever reads it from now on.

        Raises:
            NotFound: there is none by that id.
            InvalidOption: see `api.renaming`.
        """
        key = _known_form(analysis_id)
        query = sa.select(analyses.c.body).where(analyses.c.id == key)
        while True:
            body = await self._database.read(lambda connection: connection.scalar(query))
            if body is None:
                raise _unknown(analysis_id)
            renamed, replace = await asyncio.to_thread(_replacement, body, names)
            if await self._database.write(replace):
                return renamed

    async def delete(self, analysis_id: str) -> None:
        """
        Raises:
            NotFound: there is none by that id.
        """
        query = sa.delete(analyses).where(analyses.c.id == _known_form(analysis_id))
        if await self._database.write(lambda connection: connection.execute(query).rowcount) == 0:
            raise _unknown(analysis_id)

    async def list(self, wanted: AnalysisFilter, *, limit: int, cursor: str | None = None) -> Page:
        """One page, newest first. What is saved meanwhile neither shifts nor repeats older items.

        Raises:
            InvalidOption: the cursor isn't one that a page gave.
        """
        columns = [analyses.c[name] for name in _SUMMARY]
        query = (
            sa.select(*columns)
            .where(*_conditions(wanted))
            .order_by(analyses.c.created_at.desc(), analyses.c.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            created_at, analysis_id = from_cursor(cursor)
            query = query.where(
                sa.or_(
                    analyses.c.created_at < created_at,
                    sa.and_(analyses.c.created_at == created_at, analyses.c.id < analysis_id),
                )
            )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        items = tuple(_summary(row._mapping) for row in rows[:limit])
        return Page(
            items, to_cursor(items[-1].created_at, items[-1].id) if len(rows) > limit else None
        )

    async def delete_older(self, moment: datetime) -> int:
        """Delete what was made before `moment`; how many that were."""
        oldest = (
            sa.select(analyses.c.id)
            .where(analyses.c.created_at < moment)
            .order_by(analyses.c.created_at)
            .limit(_DELETED_AT_ONCE)
        )
        query = sa.delete(analyses).where(analyses.c.id.in_(oldest))
        deleted = 0
        while True:
            done = await self._database.write(lambda connection: connection.execute(query).rowcount)
            deleted += done
            if done < _DELETED_AT_ONCE:
                return deleted


def insertion(analysis: Analysis) -> Callable[[sa.Connection], None]:
    """What keeps an analysis, within a transaction; doing it again changes nothing.

    For a long one this is work for a thread: `api.store.bodies` says why.
    """
    row = {**_row(analysis), "body": to_text(analysis)}
    children = {segments: list(_segment_rows(analysis)), speakers: list(_speaker_rows(analysis))}

    def insert(connection: sa.Connection) -> None:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        first = insert(analyses).values(row).on_conflict_do_nothing(index_elements=["id"])
        if connection.execute(first).rowcount == 0:
            return
        for table, rows in children.items():
            if rows:
                connection.execute(sa.insert(table), rows)

    return insert


def _replacement(
    body: str, names: Mapping[str, str]
) -> tuple[Analysis, Callable[[sa.Connection], bool]]:
    """The analysis with its new names, and what puts it in the place of `body`.

    That one says no, and changes nothing, where somebody else has renamed or deleted the analysis
    meanwhile. It is work for a thread, as `insertion` is.
    """
    renamed = rename_speakers(from_text(body), names)
    text = to_text(renamed)
    segment = segments.c
    present = sa.update(analyses).where(analyses.c.id == renamed.id, analyses.c.body == body)
    of_segments = sa.update(segments).where(
        segment.analysis_id == renamed.id, segment.speaker.in_(list(names))
    )

    def replace(connection: sa.Connection) -> bool:
        if connection.execute(present.values(body=text)).rowcount == 0:
            return False
        if names:
            called = sa.case(dict(names), value=segment.speaker)
            connection.execute(of_segments.values(speaker=called))
            # One by one, two speakers who change names would meet in the middle.
            connection.execute(sa.delete(speakers).where(speakers.c.analysis_id == renamed.id))
            connection.execute(sa.insert(speakers), list(_speaker_rows(renamed)))
        return True

    return renamed, replace


_SUMMARY = "id created_at duration language transcription speaker_count emotions".split()


def _summary(row: Mapping[Any, Any]) -> AnalysisSummary:
    return AnalysisSummary(
        id=row["id"],
        created_at=row["created_at"],
        duration=row["duration"],
        language=row["language"],
        transcription=row["transcription"],
        speakers=row["speaker_count"],
        emotions=tuple(row["emotions"]),
    )


def _row(analysis: Analysis) -> dict[str, Any]:
    transcription = _storable(analysis.transcription)
    return {
        "id": analysis.id,
        "created_at": analysis.created_at,
        "duration": analysis.duration,
        "language": analysis.language and _storable(analysis.language),
        "transcription": transcription,
        "search_text": transcription.casefold(),
        "speaker_count": len(analysis.speakers),
        "emotions": list(analysis.emotions),
    }


def _segment_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for position, segment in enumerate(analysis.segments):
        yield {
            "analysis_id": analysis.id,
            "position": position,
            "start": segment.start,
            "end": segment.end,
            "speaker": segment.speaker,
            "emotion": segment.emotion.label if segment.emotion else None,
            "text": _storable(segment.text),
        }


def _speaker_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for speaker in analysis.speakers:
        yield {
            "analysis_id": analysis.id,
            "speaker": speaker.id,
            "talk_time": speaker.talk_time,
            "turns": speaker.turns,
        }


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "")


def _known_form(analysis_id: str) -> str:
    """The id, unless no analysis can have it: too long, or nothing that a column holds."""
    if len(analysis_id) > 32 or not analysis_id.isalnum():
        raise _unknown(analysis_id)
    return analysis_id


def _unknown(analysis_id: str) -> NotFound:
    return NotFound("There is no analysis by that id", id=analysis_id)


def _conditions(wanted: AnalysisFilter) -> Iterator[sa.ColumnElement[bool]]:
    a = analyses.c
    if wanted.created_after is not None:
        yield a.created_at >= wanted.created_after
    if wanted.created_before is not None:
        yield a.created_at < wanted.created_before
    if wanted.text is not None:
        yield a.search_text.contains(_storable(wanted.text).casefold(), autoescape=True)
    if wanted.min_speakers is not None:
        yield a.speaker_count >= wanted.min_speakers
    if wanted.max_speakers is not None:
        yield a.speaker_count <= wanted.max_speakers
    if wanted.emotion is not None:
        emotion = _storable(wanted.emotion)
        yield sa.exists().where(segments.c.analysis_id == a.id, segments.c.emotion == emotion)
    if wanted.language is not None:
        yield a.language == _storable(wanted.language)
