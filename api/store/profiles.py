"""Enrolled voices: kept, found again, listed in pages, renamed, deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from api.errors import Conflict, NotFound
from api.speaker_profiles import ProfilesPage, SpeakerProfile, SpeakerTake
from api.store.cursors import from_cursor, to_cursor
from api.store.database import Database
from api.store.tables import speaker_profiles as profiles
from api.store.tables import speaker_takes

MOST_TAKES = 50
"""Of one profile; a voice is known well long before."""


class ProfileStore:
    """Every method raises `StoreUnavailable` when the database is absent, locked or full."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, takes: Sequence[SpeakerTake]) -> SpeakerProfile:
        """Keep a voice, whole or not at all.

        Raises:
            Conflict: another one has this name.
        """
        profile = SpeakerProfile(uuid4().hex, name, datetime.now(timezone.utc), tuple(takes))
        row = {"id": profile.id, "created_at": profile.created_at, "name": name}

        def create(connection: sa.Connection) -> None:
            connection.execute(sa.insert(profiles).values(row))
            connection.execute(sa.insert(speaker_takes), _take_rows(profile.id, takes))

        await self._write_named(name, create)
        return profile

    async def add(self, profile_id: str, takes: Sequence[SpeakerTake]) -> SpeakerProfile:
        """Keep further takes of a voice.

        Raises:
            NotFound: there is no profile by that id.
            Conflict: it would have more than 50 takes.
        """
        wanted = profiles.c.id == profile_id
        own = speaker_takes.c.profile_id == profile_id

        def add(connection: sa.Connection) -> SpeakerProfile:
            # The update locks the profile, so that two callers can't both go up to the bound.
            same = sa.update(profiles).where(wanted).values(id=profile_id)
            if connection.execute(same).rowcount == 0:
                raise _unknown(profile_id)
            count = connection.scalar(
                sa.select(sa.func.count()).select_from(speaker_takes).where(own)
            )
            if (count or 0) + len(takes) > MOST_TAKES:
                raise Conflict("The profile has too many takes", limit=MOST_TAKES)
            connection.execute(sa.insert(speaker_takes), _take_rows(profile_id, takes))
            return _read(connection, sa.select(profiles).where(wanted))[0]

        return await self._database.write(add)

    async def get(self, profile_id: str) -> SpeakerProfile:
        """
        Raises:
            NotFound: there is no profile by that id.
        """
        query = sa.select(profiles).where(profiles.c.id == profile_id)
        found = await self._database.read(lambda connection: _read(connection, query))
        if not found:
            raise _unknown(profile_id)
        return found[0]

    async def rename(self, profile_id: str, name: str) -> SpeakerProfile:
        """
        Raises:
            NotFound: there is no profile by that id.
            Conflict: another one has this name.
        """
        query = sa.update(profiles).where(profiles.c.id == profile_id).values(name=name)

        def rename(connection: sa.Connection) -> None:
            if connection.execute(query).rowcount == 0:
                raise _unknown(profile_id)

        await self._write_named(name, rename)
        return await self.get(profile_id)

    async def delete(self, profile_id: str) -> None:
        """
        Raises:
            NotFound: there is no profile by that id.
        """
        query = sa.delete(profiles).where(profiles.c.id == profile_id)
        if await self._database.write(lambda connection: connection.execute(query).rowcount) == 0:
            raise _unknown(profile_id)

    async def all(self) -> list[SpeakerProfile]:
        """Every enrolled voice, in order of time."""
        query = sa.select(profiles).order_by(profiles.c.created_at, profiles.c.id)
        return await self._database.read(lambda connection: _read(connection, query))

    async def list(self, *, limit: int, cursor: str | None = None) -> ProfilesPage:
        """One page, newest first. What is enrolled meanwhile neither shifts nor repeats others.

        Raises:
            InvalidOption: the cursor isn't one that a page gave.
        """
        query = (
            sa.select(profiles)
            .order_by(profiles.c.created_at.desc(), profiles.c.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            place = sa.tuple_(*(sa.literal(value) for value in from_cursor(cursor)))
            query = query.where(sa.tuple_(profiles.c.created_at, profiles.c.id) < place)
        found = await self._database.read(lambda connection: _read(connection, query))
        items = tuple(found[:limit])
        last = items[-1] if len(found) > limit else None
        return ProfilesPage(items, to_cursor(last.created_at, last.id) if last else None)

    async def _write_named(self, name: str, work: Any) -> None:
        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise Conflict("Another speaker has this name", name=name) from error


def _unknown(profile_id: str) -> NotFound:
    return NotFound("There is no speaker by that id", id=profile_id)


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[SpeakerProfile]:
    """The profiles that a query gives, in its order, with their takes in order of time."""
    rows = connection.execute(query).mappings().all()
    takes: defaultdict[str, list[SpeakerTake]] = defaultdict(list)
    of_these = speaker_takes.c.profile_id.in_([row["id"] for row in rows])
    in_order = (speaker_takes.c.created_at, speaker_takes.c.id)
    found = sa.select(speaker_takes).where(of_these).order_by(*in_order)
    for take in connection.execute(found).mappings():
        takes[take["profile_id"]].append(_take(take))
    return [
        SpeakerProfile(row["id"], row["name"], row["created_at"], tuple(takes[row["id"]]))
        for row in rows
    ]


def _take(row: Mapping[Any, Any]) -> SpeakerTake:
    return SpeakerTake(
        id=row["id"],
        created_at=row["created_at"],
        speech_s=row["speech_s"],
        windows=row["windows"],
        embedding=np.frombuffer(row["embedding"], dtype="<f4"),
        fingerprint=row["fingerprint"],
        version=row["version"],
        checkpoint=row["checkpoint"],
    )


def _take_rows(profile_id: str, takes: Sequence[SpeakerTake]) -> list[dict[str, Any]]:
    return [
        {
            "id": take.id,
            "profile_id": profile_id,
            "created_at": take.created_at,
            "speech_s": take.speech_s,
            "windows": take.windows,
            "embedding": take.embedding.astype("<f4").tobytes(),
            "fingerprint": take.fingerprint,
            "version": take.version,
            "checkpoint": take.checkpoint,
        }
        for take in takes
    ]
