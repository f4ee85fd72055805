"""`voice-analytics analyze`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import click

from voice_analytics_client.cli.context import analysis_options, chosen, current_service
from voice_analytics_client.cli.output import note, readable, say
from voice_analytics_client.client import VoiceAnalytics
from voice_analytics_client.errors import (
    AuthenticationError,
    ServiceUnreachable,
    TooLarge,
    VoiceAnalyticsError,
)
from voice_analytics_client.requests import AudioFile
from voice_analytics_client.routes import Options, TextFormat

FORMATS = ["text", "json", "srt", "vtt", "tsv", "txt", "rttm", "html"]


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="text is for reading; txt is the bare script.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a file for each FILE there instead of to standard output.",
)
@analysis_options
def analyze(
    files: tuple[str, ...],
    format_: str,
    out: Path | None,
    **options: Any,
) -> int:
    """Analyse recordings and show what was heard. FILE may be - for standard input.

    Several FILEs as json come one a line. A FILE that fails is told at the end of its turn; the
    others go on.
    """
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    failed = False
    with current_service().client() as client:
        for name in files:
            try:
                answer = _answer(client, name, format_, chosen(options), is_one=len(files) == 1)
            except (AuthenticationError, ServiceUnreachable):
                raise
            except VoiceAnalyticsError as error:
                failed = True
                hint = "; `voice-analytics jobs submit` takes long recordings"
                note(f"{name}: {error}{hint if isinstance(error, TooLarge) else ''}", style="red")
                continue
            if out is not None:
                (out / f"{Path(name).stem}.{format_}").write_text(answer, encoding="utf-8")
                continue
            if len(files) > 1 and format_ != "json":
                say(f"── {name}", style="bold")
            click.echo(answer, nl=not answer.endswith("\n"))
    return int(failed)


def _answer(
    client: VoiceAnalytics, name: str, format_: str, options: Options, *, is_one: bool
) -> str:
    file: AudioFile = sys.stdin.buffer.read() if name == "-" else name
    if format_ == "text":
        return readable(client.analyze(file, **options))
    if format_ == "json":
        return _json(client.analyze(file, **options).raw, is_one=is_one)
    wanted = cast(TextFormat, "text" if format_ == "txt" else format_)
    return client.analyze_as(file, wanted, **options)


def _json(value: Any, *, is_one: bool) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2 if is_one else None)
