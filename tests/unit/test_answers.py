"""Long analyses are written and read piece by piece, and nothing of them is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest

from api.answers import to_json
from api.schemas import to_response
from api.store.bodies import PER_LINE, from_text, to_text
from api.types import Analysis
from tests.analyses import analysis


def of_length(segments: int) -> Analysis:
    made = analysis("a1", texts=[f"word {n}" for n in range(segments)], emotions=["sad", "happy"])
    return replace(made, turns=made.turns[: segments // 2])


LENGTHS = (0, 1, PER_LINE, PER_LINE + 1, 5 * PER_LINE // 2)


@pytest.mark.parametrize("segments", LENGTHS)
def test_a_stored_analysis_is_read_as_it_was(segments: int) -> None:
    made = of_length(segments)
    assert from_text(to_text(made)) == made


def test_an_analysis_from_before_it_had_lines_is_read() -> None:
    made = of_length(5 * PER_LINE)
    assert from_text(orjson.dumps(made).decode()) == made


@pytest.mark.parametrize("segments", LENGTHS)
def test_the_answer_in_pieces_is_the_answer(segments: int) -> None:
    made = of_length(segments)
    assert json.loads(to_json(made)) == to_response(made).model_dump(mode="json")


def test_no_line_of_a_long_analysis_is_long() -> None:
    """orjson and pydantic keep the interpreter to themselves through a call: in one piece, even in
    a thread, an analysis of 4 hours held the event loop up for most of a second."""
    lines = [json.loads(line) for line in to_text(of_length(9 * PER_LINE)).split("\n")]
    assert [len(line["segments"]) for line in lines] == [PER_LINE] * 9
    assert max(len(line["turns"]) for line in lines) == PER_LINE
