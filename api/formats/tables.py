"""An analysis as lines of plain text: a script with speakers, a table, diarization's RTTM."""

from __future__ import annotations

import re
from itertools import groupby

from api.types import Analysis

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and halves of characters, which UTF-8 can't write."""


def text(analysis: Analysis) -> str:
    """A script: a line for each stretch of one speaker, with their name where one is known."""
    said = [segment for segment in analysis.segments if segment.text.strip()]
    lines = []
    for speaker, group in groupby(said, key=lambda s: s.speaker):
        words = one_line(" ".join(segment.text for segment in group))
        lines.append(f"{one_line(speaker)}: {words}\n" if speaker else f"{words}\n")
    return "".join(lines)


def tsv(analysis: Analysis) -> str:
    """A table with times in milliseconds, as openai-whisper writes it, and the speaker."""
    rows = [
        f"{round(s.start * 1000)}\t{round(s.end * 1000)}\t"
        f"{one_line(s.speaker or '')}\t{one_line(s.text)}"
        for s in analysis.segments
    ]
    return "\n".join(["start\tend\tspeaker\ttext", *rows, ""])


def rttm(analysis: Analysis) -> str:
    """Speaker turns as NIST's Rich Transcription Time Marked lines.

    Fields are parted by spaces: those in a name become underscores.
    """
    return "".join(
        f"SPEAKER {analysis.id} 1 {t.start:.3f} {t.duration_s:.3f} "
        f"<NA> <NA> {'_'.join(t.speaker.split()) or '<NA>'} <NA> <NA>\n"
        for t in analysis.turns
    )


def one_line(words: str) -> str:
    """Line breaks, tabs and control characters would end a row, a cue or a field."""
    return " ".join(CONTROL.sub(" ", words).split())
