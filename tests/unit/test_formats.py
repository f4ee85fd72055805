"""Subtitles, tables and scripts, to the letter."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import av
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.formats import rttm, srt, text, tsv, vtt
from api.formats.subtitles import LINE_CHARACTERS, MAX_CUE_S, MAX_LINES
from api.types import Analysis, Conversation, Quality, Segment, Turn, Word

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
        "01:01:01.000 --> 01:01:02.500\na &lt;b&gt; &amp; c\n"
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


def test_neighbours_of_one_speaker_are_one_line_of_the_script() -> None:
    segments = [Segment(n, n + 1, f" {n}.", speaker=who) for n, who in enumerate("AABA")]
    assert text(replace(ANALYSIS, segments=tuple(segments))) == "A: 0. 1.\nB: 2.\nA: 3.\n"


def _spoken(words: list[str], speaker: str | None = "SPEAKER_00", pace_s: float = 0.5) -> Analysis:
    """One segment of so many words, evenly spoken."""
    placed = tuple(
        Word(f" {word}", n * pace_s, (n + 0.9) * pace_s, 0.9) for n, word in enumerate(words)
    )
    whole = Segment(0.0, placed[-1].end, " " + " ".join(words), words=placed, speaker=speaker)
    return replace(ANALYSIS, segments=(whole,))


def _shown(subtitles: str, form: str) -> list[tuple[float, float, str]]:
    """Start, end and text of each cue, as FFmpeg's parser reads them; ASS breaks lines by \\N."""
    shown = []
    with av.open(io.BytesIO(subtitles.encode()), format=form) as container:
        for packet in container.demux(subtitles=0):
            if packet.pts is None:
                continue
            start = float(packet.pts * packet.time_base)
            end = start + float(packet.duration * packet.time_base)
            lines = [rect.dialogue.decode() for rect in packet.decode()]
            shown.append((start, end, "".join(lines).replace("\\N", "\n")))
    return shown


@pytest.mark.parametrize("form, write", [("srt", srt), ("webvtt", vtt)])
def test_long_cues_are_cut_between_words_and_another_parser_reads_them(form, write) -> None:  # type: ignore[no-untyped-def]
    words = [f"word{n}" for n in range(60)]
    cues = _shown(write(_spoken(words)), form)
    assert len(cues) > 4
    prefix = "SPEAKER_00: " if form == "srt" else ""
    assert " ".join(re.sub(prefix, "", t, count=1) for _, _, t in cues).split() == words
    assert cues[0][0] == 0 and cues[-1][1] == pytest.approx(29.95)
    for start, end, shown in cues:
        assert end - start <= MAX_CUE_S
        lines = shown.split("\n")
        assert len(lines) <= MAX_LINES and all(len(x) <= LINE_CHARACTERS for x in lines)
        first = int(re.findall(r"word(\d+)", shown)[0])
        assert start == pytest.approx(first / 2, abs=1e-3), "a cue begins with its first word"


def test_without_word_times_a_long_segment_stays_one_cue() -> None:
    """Where a part of it begins, nobody knows."""
    timeless = replace(ANALYSIS, segments=(Segment(1.0, 21.0, " one two" * 20),))
    ((start, end, shown),) = _shown(srt(timeless), "srt")
    assert (start, end) == (1.0, 21.0)
    assert shown.split() == ["one", "two"] * 20


def test_openai_gets_whole_segments_as_openai_whisper_writes_them() -> None:
    analysis = _spoken([f"word{n}" for n in range(30)], speaker=None)
    assert srt(analysis, whole_segments=True).count("-->") == 1
    assert len(srt(analysis, whole_segments=True).splitlines()) == 3
    assert vtt(analysis, whole_segments=True).count("-->") == 1


def test_empty_segments_show_nothing_and_no_cue_ends_where_it_begins() -> None:
    segments = (Segment(1.0, 2.0, "  "), Segment(2.0, 2.0, " hm"))
    analysis = replace(ANALYSIS, segments=segments)
    assert srt(analysis) == "1\n00:00:02,000 --> 00:00:02,001\nhm\n"
    assert text(analysis) == "hm\n"


HOSTILE = st.text(
    st.sampled_from(list("ab \t\r\n\v\x00\x1f\x85\u2028<>&-:;\"'\\é漢\u202e\u200c")), max_size=30
) | st.sampled_from(
    [
        "-->",
        "00:00:01,000 --> 00:00:02,000",
        "<v Bob>",
        "\n\n2\n",
        "NOTE",
        "WEBVTT",
        "&lt;",
        "<00:01>",
    ]
)


@given(words=HOSTILE, speaker=HOSTILE)
@example(words=":", speaker="--")
def test_no_text_breaks_the_frame(words: str, speaker: str) -> None:
    """Line breaks end rows and cues, arrows begin them, brackets are markup."""
    segment = Segment(1.0, 2.0, words, speaker=speaker or None)
    turn = Turn(1.0, 2.0, speaker)
    analysis = replace(ANALYSIS, segments=(segment,) * 2, turns=(turn,) * 2)
    cues = 2 if re.sub(r"[\x00-\x20\x85\u2028]", "", words) else 0
    assert srt(analysis).count("-->") == vtt(analysis).count("-->") == cues
    assert len(tsv(analysis).split("\n")) == 4
    assert all(row.count("\t") == 3 for row in tsv(analysis).split("\n")[:3])
    assert [len(row.split()) for row in rttm(analysis).splitlines()] == [10, 10]
    assert len(text(analysis).splitlines()) <= 2
    for block in vtt(analysis).split("\n\n")[1:]:
        times, shown = block.split("\n", 1)
        assert re.fullmatch(r"[\d:.]+ --> [\d:.]+", times)
        assert not re.search(r"[<>]", re.sub(r"^<v [^<>]*>", "", shown))
