"""What the store decides before it reaches a database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import orjson
import pytest
from pydantic import TypeAdapter, ValidationError

from api.endpoints.analyses import ListQuery
from api.errors import ConfigurationError
from api.schemas import to_response
from api.store.database import Database
from api.types import Analysis
from tests.analyses import analysis


@pytest.mark.parametrize(
    "url",
    ["", "analyses.db", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "redis://host"],
)
def test_a_url_that_names_no_supported_database_is_a_setting_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        Database(url, timeout_s=1)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://user:secret@host/name",
        "postgresql://user:secret@host/name?sslmode=require",
        "postgresql+asyncpg://user:secret@host:5433/name",
        "sqlite:////tmp/a b%20c.db",
        "sqlite+pysqlite:///relative.db",
    ],
)
def test_urls_as_other_tools_write_them_are_understood(url: str) -> None:
    assert Database(url, timeout_s=1).is_sqlite == url.startswith("sqlite")


def test_an_analysis_survives_its_json_exactly() -> None:
    original = analysis("a1", texts=["one", "two"], emotions=["happy"], speakers=2)
    assert TypeAdapter(Analysis).validate_json(orjson.dumps(original)) == original


def test_the_wire_says_when_and_from_where() -> None:
    moment = datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    answer = to_response(analysis("a1", created_at=moment)).model_dump(mode="json")
    assert datetime.fromisoformat(answer["created_at"].replace("Z", "+00:00")) == moment
    assert (answer["cached"], answer["cache"]) == (False, {"vad": "hit", "whisper": "miss"})


@pytest.mark.parametrize(
    "query, low, high",
    [
        ({}, None, None),
        ({"speakers": 2}, 2, 2),
        ({"min_speakers": 1, "max_speakers": 3}, 1, 3),
        ({"speakers": 2, "min_speakers": 1, "max_speakers": 5}, 2, 2),
        ({"speakers": 2, "min_speakers": 3}, 3, 2),
    ],
)
def test_all_speaker_counts_that_are_given_must_hold(
    query: dict[str, int], low: int | None, high: int | None
) -> None:
    wanted = ListQuery.model_validate(query).wanted()
    assert (wanted.min_speakers, wanted.max_speakers) == (low, high)


def test_a_moment_without_a_zone_is_utc() -> None:
    wanted = ListQuery.model_validate({"created_after": "2026-05-01T12:00:00"}).wanted()
    assert wanted.created_after == datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"speakers": -1},
        {"colour": "red"},
        {"text": ""},
        {"created_after": "yesterday"},
        {"created_after": "0001-01-01T00:00:00+23:59"},
    ],
)
def test_a_wrong_filter_is_refused(query: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ListQuery.model_validate(query)
