"""`voice-analytics speakers`: voices that analyses know by name."""

from __future__ import annotations

import click

from voice_analytics_client.answers import SpeakerProfile
from voice_analytics_client.cli.context import current_service, json_flag
from voice_analytics_client.cli.output import say, say_json, table

existing_file = click.Path(exists=True, dir_okay=False)


@click.group()
def speakers() -> None:
    """Teach the service voices, so that analyses call them by name."""


@speakers.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=existing_file)
@json_flag
def enrol(name: str, files: tuple[str, ...], as_json: bool) -> None:
    """Enrol a voice by recordings in which nobody else speaks, 3 s of speech each."""
    with current_service().client() as client:
        _show(client.speakers.enrol(name, *files), as_json=as_json)


@speakers.command()
@click.argument("speaker_id", metavar="ID")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=existing_file)
@json_flag
def add(speaker_id: str, files: tuple[str, ...], as_json: bool) -> None:
    """Add recordings of a voice."""
    with current_service().client() as client:
        _show(client.speakers.add(speaker_id, *files), as_json=as_json)


@speakers.command("list")
@json_flag
def list_(as_json: bool) -> None:
    """List voices, newest first."""
    with current_service().client() as client:
        found = list(client.speakers.list())
    if as_json:
        for profile in found:
            say_json(profile.raw, indent=None)
        return
    table(
        ["id", "name", "takes", "speech", "recognised"],
        [
            (
                profile.id,
                profile.name,
                len(profile.takes),
                f"{sum(take.speech for take in profile.takes):.1f} s",
                "yes" if profile.usable else "no: enrol it again for the model that serves now",
            )
            for profile in found
        ],
    )


@speakers.command()
@click.argument("speaker_id", metavar="ID")
@click.argument("name")
def rename(speaker_id: str, name: str) -> None:
    """Give a voice another name; analyses made before keep the old one."""
    with current_service().client() as client:
        _show(client.speakers.rename(speaker_id, name), as_json=False)


@speakers.command()
@click.argument("speaker_ids", nargs=-1, required=True, metavar="ID…")
def delete(speaker_ids: tuple[str, ...]) -> None:
    """Forget voices; analyses made before keep their names."""
    with current_service().client() as client:
        for speaker_id in speaker_ids:
            client.speakers.delete(speaker_id)
            say(f"{speaker_id}  deleted")


def _show(profile: SpeakerProfile, *, as_json: bool) -> None:
    if as_json:
        say_json(profile.raw)
    else:
        say(f"{profile.id}  {profile.name}  {len(profile.takes)} takes")
