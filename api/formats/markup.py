"""The report's building blocks: escaped text, clock times, colours, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from zlib import crc32

from api.formats.tables import CONTROL

GOLDEN_ANGLE = 137.508
"""Degrees between the hues of successive speakers: neighbours differ, however many there are."""

FIRST_HUE = 212.0

GREY = "--h:220;--s:8%;--a:.4"
"""CSS variables of what has no colour of its own: neutral, uncertain, nobody in particular."""

_HUES = {
    "angry": 4, "disgust": 95, "fearful": 275, "happy": 42, "sad": 215, "bored": 25,
    "surprised": 320, "calm": 175, "contempt": 345,
}  # fmt: skip
_SHORT = {"ang": "angry", "hap": "happy", "fea": "fearful", "dis": "disgust", "sur": "surprised"}
_GREY = {"neutral", "neu", "uncertain", "unknown", "other"}


def text(value: str) -> str:
    """Anything that came from a caller or a model, fit for markup and attributes."""
    return escape(CONTROL.sub(" ", value), quote=True)


def name(value: str) -> str:
    """A name in whatever direction it is written, kept apart from the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def moment(seconds: float) -> str:
    """2:03.4, for a place in the recording."""
    tenths = round(seconds * 10)
    return f"{clock(tenths // 10)}.{tenths % 10}"


def length(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def percent(share: float) -> str:
    return f"{100 * share:.0f}\N{THIN SPACE}%"


def speaker_colour(position: int) -> str:
    """CSS variables of the speaker who was heard as the `position`-th."""
    return f"--h:{(FIRST_HUE + GOLDEN_ANGLE * position) % 360:.0f};--s:62%"


def emotion_colour(label: str) -> str:
    """CSS variables of an emotion: its usual colour, or any that is always the same."""
    plain = _SHORT.get(label.casefold(), label.casefold())
    if plain in _GREY:
        return GREY
    any_hue = crc32(plain.encode(errors="replace")) % 360
    return f"--h:{_HUES.get(plain, any_hue)};--s:58%"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], caption: str, kind: str = ""
) -> str:
    """A table of markup; the first cell of a row heads it."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
