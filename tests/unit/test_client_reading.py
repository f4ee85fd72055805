"""JSON → the client's dataclasses: tolerant of what is new, clear about what is missing."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any

import pytest

from api.schemas import to_response
from tests.analyses import analysis
from voice_analytics_client import Analysis, UnexpectedAnswer
from voice_analytics_client.reading import read


def wire() -> dict[str, Any]:
    made = analysis("a1", texts=("one", "two"), emotions=("happy",), speakers=2)
    return to_response(made).model_dump(mode="json")


def test_every_field_arrives() -> None:
    found = read(Analysis, wire())
    assert found.transcription == "one two"
    assert found.segments[1].speaker == "SPEAKER_01"
    assert found.segments[0].emotion is not None
    assert found.segments[0].emotion.scores == {"happy": 0.75, "neutral": 0.25}
    assert found.conversation.talk_time == {"SPEAKER_00": 1.5, "SPEAKER_01": 1.5}
    assert found.models["whisper"].bundled
    assert found.created_at.tzinfo == timezone.utc
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.id = "other"  # type: ignore[misc]


def test_what_a_newer_service_adds_is_kept_but_not_in_the_way() -> None:
    newer = {**wire(), "loudness_lufs": -23.0}
    newer["segments"][0]["pitch_hz"] = 120
    found = read(Analysis, newer)
    assert found == read(Analysis, wire() | {"created_at": newer["created_at"]})
    assert found.raw["loudness_lufs"] == -23.0


@pytest.mark.parametrize("moment", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.600000+00:00"])
def test_dates_of_every_python(moment: str) -> None:
    found = read(Analysis, wire() | {"created_at": moment})
    assert found.created_at.replace(microsecond=0) == datetime(
        2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc
    )


@pytest.mark.parametrize(
    "change, named",
    [
        ({"id": None}, "Analysis.id"),
        ({"duration": "long"}, "Analysis.duration"),
        ({"duration": True}, "Analysis.duration"),
        ({"segments": {}}, "Analysis.segments"),
        ({"segments": [{"id": 0}]}, "Analysis.segments[0]"),
        ({"created_at": "yesterday"}, "Analysis.created_at"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        read(Analysis, wire() | change)
    assert named in caught.value.message


def test_a_missing_field_is_named() -> None:
    incomplete = wire()
    del incomplete["turns"]
    with pytest.raises(UnexpectedAnswer, match="'turns'"):
        read(Analysis, incomplete)
