"""What the commands share: the service that the caller named, and the options of an analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from voice_analytics_client.aio import AsyncVoiceAnalytics
from voice_analytics_client.client import VoiceAnalytics
from voice_analytics_client.retries import Retries
from voice_analytics_client.routes import Options

Command = TypeVar("Command", bound=Callable[..., Any])


AT_THE_TERMINAL = Retries(attempts=5, within_s=30, first_s=0.2, longest_s=2)
"""Somebody waits for the prompt: a service that isn't there is told within seconds."""


@dataclass(frozen=True)
class Service:
    """Where to ask, and for how long to wait."""

    url: str | None
    api_key: str | None
    timeout_s: float

    def client(self) -> VoiceAnalytics:
        return VoiceAnalytics(
            self.url, api_key=self.api_key, timeout_s=self.timeout_s, retries=AT_THE_TERMINAL
        )

    def async_client(self, retries: Retries = AT_THE_TERMINAL) -> AsyncVoiceAnalytics:
        return AsyncVoiceAnalytics(
            self.url, api_key=self.api_key, timeout_s=self.timeout_s, retries=retries
        )


def current_service() -> Service:
    """The one that the command line named."""
    service: Service = click.get_current_context().obj
    return service


def analysis_options(command: Command) -> Command:
    """Adds the options of an analysis; what isn't given is the service's choice."""
    for option in reversed(
        [
            click.option("--language", metavar="CODE", help="Spoken language: en, de, …"),
            click.option(
                "--task",
                type=click.Choice(["transcribe", "translate"]),
                help="translate writes English, whatever is spoken.",
            ),
            click.option("--diarize/--no-diarize", default=None, help="Tell the speakers apart."),
            click.option("--num-speakers", type=int, metavar="N", help="So many speakers."),
            click.option("--min-speakers", type=int, metavar="N", help="At least so many."),
            click.option("--max-speakers", type=int, metavar="N", help="At most so many."),
            click.option("--emotions/--no-emotions", default=None, help="Hear the emotions."),
            click.option(
                "--word-timestamps/--no-word-timestamps",
                default=None,
                help="Give each word its times.",
            ),
            click.option(
                "--identify-speakers/--no-identify-speakers",
                default=None,
                help="Call enrolled voices by name.",
            ),
            click.option("--prompt", metavar="TEXT", help="What came before, or how it's spelled."),
            click.option("--beam-size", type=int, metavar="N", help="Texts followed at once."),
        ]
    ):
        command = option(command)
    return command


def chosen(values: dict[str, Any]) -> Options:
    """The options that were given."""
    given = {name: value for name, value in values.items() if value is not None}
    return cast(Options, given)


def json_flag(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")(command)
