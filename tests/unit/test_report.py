"""The HTML report: whole, self-contained, and deaf to what names and words would have it do."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.formats import html
from api.types import (
    Analysis,
    Conversation,
    Emotion,
    EmotionCurve,
    ModelRelease,
    Monologue,
    Quality,
    Region,
    Segment,
    SpeakerSummary,
    Turn,
    TurnLengths,
    Word,
)

TAGS = set(
    "html head meta title style body a main header h1 h2 p dl div dt dd ul li b section span small "
    "svg defs path use clippath rect g table thead tbody tr th td i article em bdi footer".split()
)
VOID = {"meta"}

ATTACKS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></svg></bdi><iframe src=//evil.example>",
    "&lt;script&gt;",
    "javascript:alert(1)",
    "]]><!--",
    "url(//evil.example)",
    "nul\x00 bell\x07 half\ud800 line\u2028",
    "\u202egnp.exe",
]


class Page(HTMLParser):
    """What a browser's parser would make of it: tags, attributes, and the text between."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text += data


def analysis(speaker: str = "SPEAKER_00", word: str = "four", label: str = "happy") -> Analysis:
    """Two speakers; the first goes by any name, says any word, and sounds any way."""
    emotion = Emotion(label, {label: 0.75, "neutral": 0.25})
    said = Word(f" {word}", 1.0, 1.5, 0.4, speaker)
    other = Word(" seven", 3.0, 3.5, 0.9, "SPEAKER_01")
    return Analysis(
        id="a1",
        duration=10.0,
        language="en",
        segments=(
            Segment(1.0, 1.5, f" {word}", words=(said,), speaker=speaker, emotion=emotion),
            Segment(3.0, 3.5, " seven", words=(other,), speaker="SPEAKER_01"),
            Segment(8.0, 9.0, f" {word}", speaker=None),
        ),
        turns=(Turn(1.0, 1.5, speaker, emotion), Turn(3.0, 3.5, "SPEAKER_01")),
        speakers=(
            SpeakerSummary(speaker, 0.5, 1, {label: 1.0}),
            SpeakerSummary("SPEAKER_01", 0.5, 1),
        ),
        emotions=(label,),
        conversation=Conversation(
            {speaker: 0.5, "SPEAKER_01": 0.5},
            9.0,
            1,
            0.25,
            {speaker: 120.0},
            talk_share={speaker: 0.5, "SPEAKER_01": 0.5},
            interruptions_by={speaker: {"SPEAKER_01": 2}, "SPEAKER_01": {speaker: 1}},
            turn_lengths={speaker: TurnLengths(1, 0.5, 0.5, 0.5)},
            longest_monologue=Monologue(speaker, 1.0, 1.5),
            response_time={"SPEAKER_01": 1.5},
            loudness={speaker: -23.4},
        ),
        quality=Quality(1.5, 1, 0.5, ("low_snr", label), (Region(8.0, 9.0),), 0.1, 8.5, 0.001),
        models={"whisper": ModelRelease("1", word, True)},
        timings_ms={},
        emotion_curves=(
            EmotionCurve(
                speaker, (1.2, 2.2, 8.0), {label: (0.75, 0.5, 0.1), "neutral": (0.25, 0.5, 0.9)}
            ),
        ),
        envelope=tuple(n % 10 / 10 for n in range(100)),
    )


def _is_harmless(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag in TAGS, f"<{tag}> isn't ours"
        for attribute, value in attributes.items():
            assert not attribute.startswith("on"), f"{attribute} would run"
            assert attribute != "src"
            if attribute == "href":
                assert re.fullmatch(
                    r"#(t\d+|wave|transcript)", value or ""
                ), "links stay in the page"
            if attribute == "style":
                assert re.fullmatch(r"[-a-z0-9:;.%]+", value or ""), "styles are numbers of ours"


def test_everything_is_in_it() -> None:
    source = html(analysis())
    page = Page(source)
    _is_harmless(page)
    for expected in [
        "Voice report",
        "SPEAKER_00",
        "SPEAKER_01 interrupts SPEAKER_00 once.",
        "SPEAKER_00 interrupts SPEAKER_01 2 times.",
        "four",
        "happy",
        "Noisy.",
        "-23 LUFS",
        "+1.5 s",
        "demonstration models",
        "8 dB",
    ]:
        assert expected in page.text, expected
    assert source.count("Speech without words, 0:08.0 to 0:09.0") == 1
    titles = {a["title"] for _, a in page.tags if a.get("title")}
    assert "0:01.0–0:01.5 · 40\N{THIN SPACE}%" in titles, "words say when they were said"
    links = {(a["href"] or "")[1:] for _, a in page.tags if "href" in a} - {"wave"}
    assert links <= {a["id"] for _, a in page.tags if "id" in a}, "every link leads somewhere"


def test_it_needs_nothing_from_outside() -> None:
    source = html(analysis())
    assert not re.search(
        r"https?:|//|@import|url\((?!#)|<script|<link|<img", source.replace("</", "")
    )
    assert "default-src 'none'; style-src 'unsafe-inline'" in source


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", ["speaker", "word", "label"])
def test_names_and_words_are_only_ever_text(attack: str, place: str) -> None:
    harmless, hostile = Page(html(analysis())), Page(html(analysis(**{place: attack})))
    _is_harmless(hostile)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    readable = re.sub(r"[\x00-\x1f\u2028\ud800-\udfff]", " ", attack)
    assert readable in hostile.text
    html(analysis(**{place: attack})).encode()


@settings(max_examples=30)
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_text_makes_a_whole_page(speaker: str, word: str, label: str) -> None:
    page = Page(html(analysis(speaker, word, label)))
    _is_harmless(page)


def test_languages_and_directions_are_told() -> None:
    page = Page(html(replace(analysis(word="שלום"), language="he")))
    assert ("div", {"lang": "he"}) in page.tags
    assert ("p", {"dir": "auto"}) in page.tags


def test_nothing_was_heard() -> None:
    empty = Analysis(
        id="a1",
        duration=0.0,
        language=None,
        segments=(),
        turns=(),
        speakers=(),
        emotions=(),
        conversation=Conversation({}, 0.0, 0, 0.0, {}),
        quality=Quality(0.0, 0, 0.0, ("no_speech",)),
        models={},
        timings_ms={},
    )
    page = Page(html(empty))
    assert "No speech. Nobody was heard in this recording." in page.text
    assert "There are no words in this recording." in page.text


def test_a_paragraph_ends_with_a_pause_another_voice_or_its_length() -> None:
    said = [Segment(n, n + 0.9, f" s{n}" + " x" * 60, speaker="A") for n in range(12)]
    said += [Segment(20, 21, " after a pause", speaker="A"), Segment(21, 22, " b", speaker="B")]
    page = Page(html(replace(analysis(), segments=tuple(said))))
    turns = [a["id"] for tag, a in page.tags if tag == "article"]
    assert turns == ["t0", "t1", "t2", "t3", "t4"]


def test_four_hours_take_seconds_and_some_megabytes() -> None:
    """2,400 segments of 15 words: all but the words is bounded."""
    words = tuple(Word(" word", n * 0.4, n * 0.4 + 0.3, 0.9) for n in range(15))
    said = tuple(
        Segment(n * 6.0, n * 6.0 + 6, " word" * 15, words=words, speaker=f"S{n % 4}")
        for n in range(2400)
    )
    turns = tuple(Turn(s.start, s.end, str(s.speaker)) for s in said)
    long = replace(analysis(), duration=14_400.0, segments=said, turns=turns)
    assert len(html(long)) < 5_000_000
