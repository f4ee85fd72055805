"""Speakers of an analysis get other names."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest

from api.errors import InvalidOption
from api.renaming import rename_speakers
from api.types import EmotionCurve
from tests.analyses import analysis

FOUND = replace(
    analysis("a", texts=["one", "two", "three"], emotions=["happy"], speakers=2),
    emotion_curves=(EmotionCurve("SPEAKER_01", (0.5,), {"happy": (0.75,)}),),
)


def test_a_new_name_stands_wherever_the_old_one_did() -> None:
    renamed = orjson.dumps(rename_speakers(FOUND, {"SPEAKER_01": "Anna"})).decode()
    expected = orjson.dumps(FOUND).decode().replace('"SPEAKER_01"', '"Anna"')
    assert json.loads(renamed) == json.loads(expected)
    assert renamed.count('"Anna"') > 10


def test_speakers_may_change_names() -> None:
    swapped = rename_speakers(FOUND, {"SPEAKER_00": "SPEAKER_01", "SPEAKER_01": "SPEAKER_00"})
    assert [segment.speaker for segment in swapped.segments] == [
        "SPEAKER_01",
        "SPEAKER_00",
        "SPEAKER_01",
    ]
    assert (
        rename_speakers(swapped, {"SPEAKER_00": "SPEAKER_01", "SPEAKER_01": "SPEAKER_00"}) == FOUND
    )


@pytest.mark.parametrize(
    "names, named",
    [
        ({"SPEAKER_02": "Anna"}, {"speakers": ["SPEAKER_02"]}),
        ({"SPEAKER_00": "Anna", "SPEAKER_01": "Anna"}, {"names": ["Anna"]}),
        ({"SPEAKER_00": "SPEAKER_01"}, {"names": ["SPEAKER_01"]}),
    ],
)
def test_what_would_be_another_analysis_is_refused(
    names: dict[str, str], named: dict[str, list[str]]
) -> None:
    with pytest.raises(InvalidOption) as caught:
        rename_speakers(FOUND, names)
    assert named.items() <= caught.value.details.items()


def test_segments_of_nobody_stay_so() -> None:
    unheard = replace(FOUND.segments[0], speaker=None)
    renamed = rename_speakers(replace(FOUND, segments=(unheard,)), {"SPEAKER_00": "Anna"})
    assert renamed.segments[0].speaker is None
