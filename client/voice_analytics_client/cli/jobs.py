"""`voice-analytics jobs`: recordings that are analysed while nobody waits."""

from __future__ import annotations

from typing import Any, cast

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from voice_analytics_client.answers import Analysis, Job, JobStatus
from voice_analytics_client.cli.context import (
    analysis_options,
    chosen,
    current_service,
    json_flag,
)
from voice_analytics_client.cli.output import note, readable, say, say_json, table
from voice_analytics_client.client import VoiceAnalytics
from voice_analytics_client.flows import ended

STATES = ["queued", "running", "succeeded", "failed", "cancelled"]


@click.group()
def jobs() -> None:
    """Have long recordings analysed in the background."""


@jobs.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(exists=True, dir_okay=False),
)
@click.option("--wait", is_flag=True, help="Wait for the analyses and show them.")
@click.option("--webhook-url", metavar="URL", help="Is called, signed, when a job has ended.")
@analysis_options
@json_flag
def submit(
    files: tuple[str, ...], wait: bool, webhook_url: str | None, as_json: bool, **options: Any
) -> int:
    """Hand in recordings; each becomes a job that survives whatever happens to the service."""
    failed = False
    with current_service().client() as client:
        submitted = [
            client.jobs.submit(name, webhook_url=webhook_url, **chosen(options)) for name in files
        ]
        for name, job in zip(files, submitted, strict=True):
            if wait:
                failed |= not _watched(client, job.id, as_json=as_json)
            elif as_json:
                say_json(job.raw, indent=None)
            else:
                say(f"{job.id}  {job.status}  {name}")
    return int(failed)


@jobs.command("list")
@click.option("--status", type=click.Choice(STATES), help="Only these.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
@json_flag
def list_(status: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    with current_service().client() as client:
        found = client.jobs.list(cast(JobStatus, status) if status else None)
        rows = [job for _, job in zip(range(limit), found, strict=False)]
    if as_json:
        for job in rows:
            say_json(job.raw, indent=None)
        return
    table(
        ["job", "status", "done", "stage", "created", "analysis"],
        [
            (
                job.id,
                job.status,
                f"{job.progress:.0%}",
                job.stage,
                f"{job.created_at:%Y-%m-%d %H:%M:%S}",
                job.analysis_id,
            )
            for job in rows
        ],
    )


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_flag
def get(job_id: str, as_json: bool) -> None:
    """Show one job."""
    with current_service().client() as client:
        job = client.jobs.get(job_id)
    if as_json:
        say_json(job.raw)
    else:
        say(_line(job))


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_flag
def watch(job_id: str, as_json: bool) -> int:
    """Follow a job until it has ended, then show its analysis."""
    with current_service().client() as client:
        return int(not _watched(client, job_id, as_json=as_json))


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB…")
def cancel(job_ids: tuple[str, ...]) -> None:
    """End jobs without an analysis."""
    with current_service().client() as client:
        for job_id in job_ids:
            client.jobs.cancel(job_id)
            say(f"{job_id}  cancelled")


def _watched(client: VoiceAnalytics, job_id: str, *, as_json: bool) -> bool:
    """Show a job's way and its end; whether it ended well."""
    job = _followed(client, job_id)
    if job is None or job.analysis_id is None:
        note(f"error: {ended(job)}" if job else f"error: {job_id} is gone", style="red")
        return False
    analysis: Analysis = client.analyses.get(job.analysis_id)
    if as_json:
        say_json(analysis.raw, indent=None)
    else:
        say(readable(analysis))
    return True


def _followed(client: VoiceAnalytics, job_id: str) -> Job | None:
    """The job, once it has ended."""
    job: Job | None = None
    console = Console(stderr=True)
    if not console.is_terminal:
        for job in client.jobs.events(job_id):
            note(_line(job))
        return job
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(job_id, total=1.0)
        for job in client.jobs.events(job_id):
            facts = f"{job.progress:.0%} {job.stage or job.status}"
            bar.update(task, completed=job.progress, description=facts)
    return job


def _line(job: Job) -> str:
    parts = [job.id, job.status, f"{job.progress:.0%}", job.stage, job.analysis_id]
    reason = job.error.message if job.error else None
    return "  ".join(part for part in (*parts, reason) if part)
