"""The group of commands, and what becomes of errors."""

from __future__ import annotations

import os
import sys

import click

from voice_analytics_client import errors
from voice_analytics_client.cli.analyze import analyze
from voice_analytics_client.cli.batch import batch
from voice_analytics_client.cli.context import Service
from voice_analytics_client.cli.health import health, models
from voice_analytics_client.cli.jobs import jobs
from voice_analytics_client.cli.output import note
from voice_analytics_client.cli.rollout import rollout
from voice_analytics_client.cli.speakers import speakers
from voice_analytics_client.cli.stream import stream
from voice_analytics_client.settings import DEFAULT_URL, KEY_VARIABLE, TIMEOUT_S, URL_VARIABLE

PROGRAM = "voice-analytics"

FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130
"""Exit codes; 2 is click's, for a wrong command line."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{URL_VARIABLE} and {KEY_VARIABLE} stand in for --url and --api-key. Exit codes: 0 all "
    "went well, 1 something failed, 2 a wrong command line, 3 the service can't be reached.",
)
@click.option("--url", metavar="URL", help=f"Where the service is.  [default: {DEFAULT_URL}]")
@click.option("--api-key", metavar="KEY", help="Better in the environment: others see arguments.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for an answer.",
)
@click.version_option(package_name="voice-analytics-client")
@click.pass_context
def cli(context: click.Context, url: str | None, api_key: str | None, timeout_s: float) -> None:
    """Who spoke when, what they said, and how they sounded."""
    context.obj = Service(url, api_key, timeout_s)


for command in (analyze, batch, stream, jobs, speakers, models, rollout, health):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the exit code tells."""
    try:
        code = cli.main(prog_name=PROGRAM, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        note("Interrupted")
        code = INTERRUPTED
    except BrokenPipeError:  # `voice-analytics … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except (errors.VoiceAnalyticsError, OSError, ValueError) as error:
        note(f"error: {explained(error)}", style="red")
        code = UNREACHABLE if isinstance(error, errors.ServiceUnreachable) else FAILED
    sys.exit(code)


def explained(error: Exception) -> str:
    """An error, and what to do about it."""
    if isinstance(error, errors.RequestTimedOut):
        return f"{error}. --timeout gives it longer."
    if isinstance(error, errors.ServiceUnreachable):
        return (
            f"{error}\nIs it running? `./dev.sh serve` in its checkout starts it; --url or "
            f"{URL_VARIABLE} names another."
        )
    if isinstance(error, errors.AuthenticationError):
        return f"{error}\n{KEY_VARIABLE} or --api-key names the key."
    return str(error)
