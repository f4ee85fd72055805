"""An analysis as subtitles. Cues longer than two lines or seven seconds are cut between words.

Line length, lines and duration are those of Netflix' Timed Text Style Guide for English: 42
characters, two lines, seven seconds. openai-whisper's writers cut nothing by default.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.formats.tables import one_line
from api.types import Analysis, Segment, Word

LINE_CHARACTERS = 42
MAX_LINES = 2
MAX_CUE_S = 7.0


@dataclass(frozen=True)
class Cue:
    """What is shown at once, on one line until it is wrapped; times in milliseconds."""

    start_ms: int
    end_ms: int
    speaker: str
    text: str


def srt(analysis: Analysis, *, whole_segments: bool = False) -> str:
    """SubRip subtitles, numbered from 1; the format has no escapes and no voices.

    Args:
        whole_segments: one cue a segment on one line, as openai-whisper writes them.
    """
    blocks = []
    for number, cue in enumerate(cues(analysis, whole_segments), start=1):
        # Nothing may look like a cue's times: openai-whisper writes the arrow so, too.
        shown = _prefixed(cue.speaker, cue.text).replace("-->", "->")
        lines = shown if whole_segments else "\n".join(_wrap(shown))
        times = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        blocks.append(f"{number}\n{times}\n{lines}\n")
    return "\n".join(blocks)


def vtt(analysis: Analysis, *, whole_segments: bool = False) -> str:
    """WebVTT subtitles with voice spans (https://www.w3.org/TR/webvtt1/#webvtt-cue-voice-span)."""
    blocks = ["WEBVTT\n"]
    for cue in cues(analysis, whole_segments):
        voice = _voice(cue.speaker) if cue.speaker else ""
        lines = [cue.text] if whole_segments else _wrap(cue.text)
        shown = voice + "\n".join(_escaped(line) for line in lines)
        times = f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}"
        blocks.append(f"{times}\n{shown}\n")
    return "\n".join(blocks)


def cues(analysis: Analysis, whole_segments: bool = False) -> Iterator[Cue]:
    """What is shown when; segments without text show nothing."""
    for segment in analysis.segments:
        text = one_line(segment.text)
        if not text:
            continue
        # Without the words' times there is no telling when a part of the text was said.
        timed = one_line("".join(w.word for w in segment.words)) == text
        if whole_segments or not timed:
            yield _cue(segment, segment.start, segment.end, text)
            continue
        for words in _parts(segment):
            part = one_line("".join(w.word for w in words))
            yield _cue(segment, words[0].start, words[-1].end, part)


def _parts(segment: Segment) -> Iterator[Sequence[Word]]:
    """The words of a segment in runs that fit one cue each."""
    part: list[Word] = []
    for word in segment.words:
        longer = [*part, word]
        shown = _prefixed(
            one_line(segment.speaker or ""), one_line("".join(w.word for w in longer))
        )
        too_long = len(_wrap(shown)) > MAX_LINES or word.end - longer[0].start > MAX_CUE_S
        if part and too_long:
            yield part
            longer = [word]
        part = longer
    if part:
        yield part


def _cue(segment: Segment, start: float, end: float, text: str) -> Cue:
    """A cue of at least a millisecond: WebVTT knows none that ends where it begins."""
    start_ms, end_ms = round(start * 1000), round(end * 1000)
    return Cue(start_ms, max(end_ms, start_ms + 1), one_line(segment.speaker or ""), text)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_CHARACTERS, break_on_hyphens=False)


def _prefixed(speaker: str, text: str) -> str:
    return f"{speaker}: {text}" if speaker else text


def _voice(speaker: str) -> str:
    """A voice span's tag; a name that ends in dashes mustn't make an arrow with it, and the space
    at a name's end is no part of it."""
    name = _escaped(speaker)
    return f"<v {name} >" if name.endswith("--") else f"<v {name}>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(milliseconds: int, separator: str) -> str:
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{milliseconds:03}"
