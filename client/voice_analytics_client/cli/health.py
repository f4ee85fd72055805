"""`voice-analytics health` and `voice-analytics models`."""

from __future__ import annotations

import click

from voice_analytics_client.cli.context import current_service, json_flag
from voice_analytics_client.cli.output import say, say_json, table


@click.command()
@json_flag
def health(as_json: bool) -> int:
    """Tell how the service is. The exit code is 1 where a model is away."""
    with current_service().client() as client:
        found = client.health()
    if as_json:
        say_json(found.raw)
    else:
        say(f"{found.status}, version {found.version}, up for {found.uptime_s:.0f} s")
        for name, model in found.models.items():
            say(f"  {name}: {'ready' if model.ready else 'away'}", "" if model.ready else "red")
    return int(found.status != "ok")


@click.command()
@json_flag
def models(as_json: bool) -> None:
    """List the models: what serves, since when, and what could."""
    with current_service().client() as client:
        found = client.models.list()
    if as_json:
        say_json([model.raw for model in found])
        return
    table(
        ["model", "version", "state", "traffic", "checkpoint", "since"],
        [
            (
                model.name,
                version.version,
                version.state,
                f"{version.traffic} %" if version.traffic else "",
                version.checkpoint or version.reason,
                f"{model.since:%Y-%m-%d %H:%M}" if version.version == model.version else "",
            )
            for model in found
            for version in model.versions
        ],
    )
