"""How answers look in a terminal: plain lines and tables; colours only where they are wanted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voice_analytics_client.answers import Analysis, Emotion

PIPE_WIDTH = 500
"""Columns of a table that no terminal shows: nothing is cut off for a script."""


def say(text: str, style: str = "") -> None:
    """One line to standard output, as it is."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(text, style=style))


def note(text: str, style: str = "") -> None:
    """One line to standard error: what isn't the answer."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style=style))


def say_json(value: Any, *, indent: int | None = 2) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; cells are shown as they are."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(found)


def clock(seconds: float) -> str:
    """Seconds as people read them: 1:02:03.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{minutes}:{tenths / 10:04.1f}"
    return f"{hours}:{whole.zfill(7)}" if hours else whole


def spoken(
    start: float, end: float, speaker: str | None, emotion: Emotion | None, text: str
) -> str:
    """One stretch of speech as a line."""
    heard = ""
    if emotion is not None:
        score = emotion.scores.get(emotion.label)  # `uncertain` has none
        heard = emotion.label if score is None else f"{emotion.label} {score:.0%}"
    known = "  ".join(part for part in (speaker or "", heard) if part)
    return f"{clock(start):>7} – {clock(end):<7}  {known:<26}  {text.strip()}".rstrip()


def readable(analysis: Analysis) -> str:
    """An analysis for people."""
    lines = [spoken(s.start, s.end, s.speaker, s.emotion, s.text) for s in analysis.segments] or [
        "(no speech)"
    ]
    people = len(analysis.speakers)
    facts = [clock(analysis.duration), analysis.language or "no language"]
    if people:
        facts.append("1 speaker" if people == 1 else f"{people} speakers")
    if analysis.emotions:
        facts.append(", ".join(analysis.emotions))
    if analysis.quality.flags:
        facts.append("look out: " + ", ".join(analysis.quality.flags))
    lines += ["", " · ".join(facts) + f"   [{analysis.id}]"]
    if any(release.bundled for release in analysis.models.values()):
        lines.append("Demonstration checkpoints: they know the English digits and little else.")
    return "\n".join(lines)
