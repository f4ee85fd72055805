"""Subtitles, tables and scripts, to the letter."""

from __future__ import annotations

from api.formats import rttm, srt, text, tsv, vtt
from api.types import Analysis, Conversation, Quality, Segment, Turn

ANALYSIS = Analysis(
    id="a1",
    duration=3700.0,
    language="en",
    segments=(
        Segment(0.5, 2.25, " four seven", speaker="SPEAKER_00"),
        Segment(3661.0, 3662.5, " a <b> & c", speaker=None),
    ),
    turns=(Turn(0.5, 2.25, "SPEAKER_00"),),
    speakers=(),
    emotions=(),
    conversation=Conversation({}, 0.0, 0, 0.0, {}),
    quality=Quality(1.75, 0, 0.0, ()),
    models={},
    timings_ms={},
)


def test_srt() -> None:
    assert srt(ANALYSIS) == (
        "1\n00:00:00,500 --> 00:00:02,250\nSPEAKER_00: four seven\n\n"
        "2\n01:01:01,000 --> 01:01:02,500\na <b> & c\n"
    )


def test_vtt_carries_voices_and_escapes_markup() -> None:
    assert vtt(ANALYSIS) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.250\n<v SPEAKER_00>four seven\n\n"
        "01:01:01.000 --> 01:01:02.500\na &lt;b> &amp; c\n"
    )


def test_tsv() -> None:
    assert tsv(ANALYSIS).splitlines() == [
        "start\tend\tspeaker\ttext",
        "500\t2250\tSPEAKER_00\tfour seven",
        "3661000\t3662500\t\ta <b> & c",
    ]


def test_text_is_a_script() -> None:
    assert text(ANALYSIS) == "SPEAKER_00: four seven\na <b> & c\n"


def test_rttm() -> None:
    assert rttm(ANALYSIS) == "SPEAKER a1 1 0.500 1.750 <NA> <NA> SPEAKER_00 <NA> <NA>\n"
