"""`voice-analytics stream`: words while they are said."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from voice_analytics_client.cli import audio_sources
from voice_analytics_client.cli.audio_sources import Encoding, Source
from voice_analytics_client.cli.context import Service, current_service, json_flag
from voice_analytics_client.cli.output import clock, note, say, say_json, spoken
from voice_analytics_client.streaming.aio import AsyncStream
from voice_analytics_client.streaming.events import Event, Final, Partial, Resumed, Summary
from voice_analytics_client.streaming.protocol import StreamConfig

CLEAR_LINE = "\r\x1b[K"


@click.command()
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option("--microphone", is_flag=True, help="Listen to the microphone, until Ctrl-C.")
@click.option("--realtime", is_flag=True, help="Send FILE no faster than it was spoken.")
@click.option(
    "--encoding",
    type=click.Choice(["s16le", "f32le", "webm", "ogg"]),
    default="s16le",
    show_default=True,
    help="What standard input holds.",
)
@click.option(
    "--sample-rate",
    type=int,
    default=16_000,
    show_default=True,
    metavar="HZ",
    help="Of raw samples on standard input.",
)
@click.option("--language", metavar="CODE", help="Spoken language: en, de, …")
@click.option("--diarize/--no-diarize", default=True, help="Tell the speakers apart.")
@click.option("--emotions/--no-emotions", default=True, help="Hear the emotions.")
@click.option("--partials/--no-partials", default=True, help="Show utterances under way.")
@json_flag
def stream(
    file: str | None,
    microphone: bool,
    realtime: bool,
    encoding: Encoding,
    sample_rate: int,
    as_json: bool,
    **config: Any,
) -> None:
    """Stream FILE (WAV, WebM, Ogg), standard input (-) or the microphone, and show what is heard.

    A connection that breaks is taken up again; no word is lost. With --json every event is a line.
    """
    if microphone == (file is not None):
        raise click.UsageError("Name a FILE, - or --microphone")
    if microphone:
        source = None
        frames = audio_sources.microphone()
        shape = StreamConfig("s16le", audio_sources.MICROPHONE_RATE_HZ, **config)
    else:
        source = _source(str(file), encoding, sample_rate)
        if realtime and source.frame_s is None:
            raise click.UsageError("--realtime paces WAV and raw samples only")
        frames = audio_sources.paced(source, realtime=realtime)
        shape = StreamConfig(source.encoding, source.sample_rate, **config)
    asyncio.run(_stream(current_service(), shape, frames, as_json=as_json))


def _source(name: str, encoding: Encoding, sample_rate: int) -> Source:
    if name == "-":
        return audio_sources.of_stdin(encoding, sample_rate)
    return audio_sources.of_file(name)


async def _stream(
    service: Service, config: StreamConfig, frames: AsyncIterator[bytes], *, as_json: bool
) -> None:
    async with service.async_client() as client, client.stream(config) as stream:
        speaking = asyncio.create_task(_speak(stream, frames))
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C just ends it
            # The first Ctrl-C ends the audio, and what was said is summed up; the second ends all.
            loop.add_signal_handler(signal.SIGINT, _end_audio, speaking, loop)
        shown = "json" if as_json else "terminal" if sys.stdout.isatty() else "lines"
        async for event in stream:
            _show(event, shown)
        await speaking


def _end_audio(speaking: asyncio.Task[None], loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_signal_handler(signal.SIGINT)
    speaking.cancel()


async def _speak(stream: AsyncStream, frames: AsyncIterator[bytes]) -> None:
    try:
        async for frame in frames:
            await stream.send(frame)
    except asyncio.CancelledError:
        note("Ending; Ctrl-C again to leave at once")
    except Exception:
        await stream.close()
        raise
    await stream.end()


def _show(event: Event, shown: str) -> None:
    if shown == "json":
        fields = event.analysis.raw if isinstance(event, Summary) else dataclasses.asdict(event)
        say_json({"type": type(event).__name__.lower(), **fields}, indent=None)
        sys.stdout.flush()
        return
    clear = CLEAR_LINE if shown == "terminal" else ""
    if isinstance(event, Partial) and clear:
        click.echo(f"{clear}{clock(event.start):>7} … {event.text.strip()}", nl=False)
    elif isinstance(event, Final) and event.text:
        click.echo(clear, nl=False)
        say(spoken(event.start, event.end, event.speaker, event.emotion, event.text))
    elif isinstance(event, Resumed):
        note("The connection was lost and is back; nothing is missing")
    elif isinstance(event, Summary):
        analysis = event.analysis
        click.echo(clear, nl=False)
        say(f"\n{clock(analysis.duration)} · {analysis.transcription}   [{analysis.id}]")
    sys.stdout.flush()
