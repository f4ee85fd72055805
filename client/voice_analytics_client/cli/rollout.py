"""`voice-analytics rollout`: a new version of a model on its way into service."""

from __future__ import annotations

from typing import cast

import click

from voice_analytics_client.cli.context import Command, current_service, json_flag
from voice_analytics_client.cli.output import note, say, say_json, table
from voice_analytics_client.client import VoiceAnalytics
from voice_analytics_client.rollout_answers import Gates, Rollout, Strategy
from voice_analytics_client.rollout_routes import Trial

STRATEGIES = ["canary", "shadow", "blue_green"]
UNDER_WAY = ("preparing", "running", "paused")


@click.group()
def rollout() -> None:
    """Bring a new version of a model into service, or take it back."""


def which(command: Command) -> Command:
    """Adds MODEL and which of its rollouts."""
    number = click.option(
        "--id", "rollout_id", type=int, metavar="N", help="Which rollout; else the latest."
    )
    return click.argument("model")(number(command))


@rollout.command()
@click.argument("model")
@click.argument("version")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="How it gets its traffic.")
@click.option("--weight", type=int, metavar="PERCENT", help="One share of traffic.")
@click.option("--steps", metavar="P,P,…", help="Shares of traffic one after the other: 10,50,100.")
@click.option("--step-seconds", type=float, metavar="SECONDS", help="Least time in a step.")
@click.option("--auto-promote", is_flag=True, help="Promote it when it passed the last step.")
@click.option("--min-requests", type=int, metavar="N", help="Answered by it in each step.")
@click.option("--max-error-rate", type=float, metavar="SHARE", help="Above it: rollback.")
@click.option("--max-p95-ratio", type=float, metavar="X", help="Latency over the stable one's.")
@click.option("--min-agreement", type=float, metavar="SHARE", help="With the stable version.")
@click.option("--golden/--no-golden", default=None, help="Try it on golden recordings first.")
@json_flag
def start(
    model: str,
    version: str,
    strategy: str | None,
    weight: int | None,
    steps: str | None,
    step_seconds: float | None,
    auto_promote: bool,
    min_requests: int | None,
    max_error_rate: float | None,
    max_p95_ratio: float | None,
    min_agreement: float | None,
    golden: bool | None,
    as_json: bool,
) -> None:
    """Begin a rollout of VERSION of MODEL."""
    gates = {
        "min_requests": min_requests,
        "error_rate": max_error_rate,
        "p95_ratio": max_p95_ratio,
        "agreement": min_agreement,
        "golden": golden,
    }
    bounds = {name: value for name, value in gates.items() if value is not None}
    trial: Trial = {}
    if strategy is not None:
        trial["strategy"] = cast(Strategy, strategy)
    if weight is not None:
        trial["weight"] = weight
    if steps is not None:
        trial["steps"] = _shares(steps)
    if step_seconds is not None:
        trial["step_seconds"] = step_seconds
    if bounds:
        trial["gates"] = cast(Gates, bounds)
    if auto_promote:
        trial["auto_promote"] = True
    with current_service().client() as client:
        _show(client.rollouts.start(model, version, **trial), as_json=as_json)


@rollout.command()
@which
@json_flag
def status(model: str, rollout_id: int | None, as_json: bool) -> None:
    """Show a rollout: its share of traffic, its figures, what happened."""
    with current_service().client() as client:
        found = client.rollouts.get(model, _chosen(client, model, rollout_id).id)
    _show(found, as_json=as_json)
    if as_json:
        return
    if found.figures is not None:
        for name, side in (("stable", found.figures.stable), ("new", found.figures.candidate)):
            p95 = "" if side.p95_s is None else f", p95 {side.p95_s * 1000:.0f} ms"
            say(f"  {name}: {side.answered} answered, {side.failed} failed{p95}")
        if found.figures.agreement is not None:
            say(f"  agreement: {found.figures.agreement:.1%} of {found.figures.compared}")
    for event in found.history:
        facts = ", ".join(f"{name} {value}" for name, value in event.detail.items())
        say(f"  {event.at:%Y-%m-%d %H:%M:%S}  {event.kind}  {facts}".rstrip())


@rollout.command()
@which
def pause(model: str, rollout_id: int | None) -> None:
    """Let the stable version answer everything for now."""
    with current_service().client() as client:
        now = _chosen(client, model, rollout_id)
        _show(client.rollouts.pause(model, now.id, revision=now.revision))


@rollout.command()
@which
def resume(model: str, rollout_id: int | None) -> None:
    """Go on with a rollout that was paused."""
    with current_service().client() as client:
        now = _chosen(client, model, rollout_id)
        _show(client.rollouts.resume(model, now.id, revision=now.revision))


@rollout.command()
@which
@click.argument("percent", type=click.IntRange(1, 100))
def weight(model: str, rollout_id: int | None, percent: int) -> None:
    """Change a canary's share of traffic."""
    with current_service().client() as client:
        now = _chosen(client, model, rollout_id)
        _show(client.rollouts.set_weight(model, now.id, percent, revision=now.revision))


@rollout.command()
@which
def promote(model: str, rollout_id: int | None) -> None:
    """Let the version on trial be the stable one."""
    with current_service().client() as client:
        now = _chosen(client, model, rollout_id)
        _show(client.rollouts.promote(model, now.id, revision=now.revision))


@rollout.command()
@which
def rollback(model: str, rollout_id: int | None) -> None:
    """Let the version that served before serve."""
    with current_service().client() as client:
        now = _chosen(client, model, rollout_id)
        _show(client.rollouts.roll_back(model, now.id, revision=now.revision))


@rollout.command()
@click.argument("model")
@json_flag
def history(model: str, as_json: bool) -> None:
    """List a model's rollouts, newest first."""
    with current_service().client() as client:
        found = client.rollouts.list(model)
    if as_json:
        for one in found:
            say_json(one.raw, indent=None)
        return
    table(
        ["id", "version", "from", "strategy", "status", "traffic", "begun", "reason"],
        [
            (
                one.id,
                one.version,
                one.from_version,
                one.strategy,
                one.status,
                f"{one.weight} %",
                f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                one.reason,
            )
            for one in found
        ],
    )


def _chosen(client: VoiceAnalytics, model: str, rollout_id: int | None) -> Rollout:
    """The rollout that was named, else the one under way, else the latest.

    Raises:
        click.UsageError: there has been none.
    """
    if rollout_id is not None:
        return client.rollouts.get(model, rollout_id)
    found = client.rollouts.list(model)
    if not found:
        raise click.UsageError(f"{model} has had no rollout")
    return next((one for one in found if one.status in UNDER_WAY), found[0])


def _shares(text: str) -> list[int]:
    try:
        return [int(share) for share in text.split(",")]
    except ValueError as error:
        raise click.UsageError("--steps are percents, parted by commas: 10,50,100") from error


def _show(one: Rollout, *, as_json: bool = False) -> None:
    if as_json:
        say_json(one.raw)
        return
    say(
        f"{one.model} rollout {one.id}: {one.version} over {one.from_version}, {one.strategy}, "
        f"{one.status}, {one.weight} % of traffic"
    )
    if one.reason:
        note(f"  {one.reason}")
