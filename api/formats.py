"""An analysis as text: subtitles, tables, a script with speakers, diarization's RTTM."""

from __future__ import annotations

from collections.abc import Callable

from api.types import Analysis, Segment


def text(analysis: Analysis) -> str:
    """A script: one line a segment, with its speaker where one is known."""
    return "".join(f"{_voice(s, ': ')}{s.text.strip()}\n" for s in analysis.segments)


def srt(analysis: Analysis) -> str:
    """SubRip subtitles, numbered from 1."""
    blocks = [
        f"{number}\n{_clock(s.start, ',')} --> {_clock(s.end, ',')}\n"
        f"{_voice(s, ': ')}{s.text.strip()}\n"
        for number, s in enumerate(analysis.segments, start=1)
    ]
    return "\n".join(blocks)


def vtt(analysis: Analysis) -> str:
    """WebVTT subtitles with voice spans (https://www.w3.org/TR/webvtt1/#webvtt-cue-voice-span)."""
    cues = [
        f"\n{_clock(s.start, '.')} --> {_clock(s.end, '.')}\n"
        + (f"<v {s.speaker}>" if s.speaker else "")
        + s.text.strip().replace("&", "&amp;").replace("<", "&lt;")
        + "\n"
        for s in analysis.segments
    ]
    return "WEBVTT\n" + "".join(cues)


def tsv(analysis: Analysis) -> str:
    """A table with times in milliseconds, as openai-whisper writes it, and the speaker."""
    rows = [
        f"{round(s.start * 1000)}\t{round(s.end * 1000)}\t{s.speaker or ''}\t"
        + s.text.strip().replace("\t", " ")
        for s in analysis.segments
    ]
    return "\n".join(["start\tend\tspeaker\ttext", *rows, ""])


def rttm(analysis: Analysis) -> str:
    """Speaker turns as NIST's Rich Transcription Time Marked lines."""
    return "".join(
        f"SPEAKER {analysis.id} 1 {t.start:.3f} {t.duration_s:.3f} "
        f"<NA> <NA> {t.speaker} <NA> <NA>\n"
        for t in analysis.turns
    )


FORMATS: dict[str, tuple[Callable[[Analysis], str], str]] = {
    "text": (text, "text/plain"),
    "srt": (srt, "application/x-subrip"),
    "vtt": (vtt, "text/vtt"),
    "tsv": (tsv, "text/tab-separated-values"),
    "rttm": (rttm, "text/plain"),
}
"""Name of the format → its writer and media type."""


def _voice(segment: Segment, separator: str) -> str:
    return f"{segment.speaker}{separator}" if segment.speaker else ""


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{separator}{milliseconds:03}"
