"""`titan update`."""

from __future__ import annotations

from typing import Any

import click

from titan import units
from titan.cli.changes import tell_changes
from titan.cli.command import PRINTING, Command, Settings, retry_option
from titan.cli.filters import chosen_filter, job_options
from titan.cli.params import DURATION_OR_NONE
from titan.client import requests
from titan.client.connection import os_user


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan update 42 --priority 10
  titan update 42 --time-limit 2h
  titan update --me --state PENDING --priority -5
""",
)
@job_options
@click.option("--priority", type=int, metavar="N", help="Higher ones start first.")
@click.option(
    "--time-limit",
    type=DURATION_OR_NONE,
    metavar="TIME|none",
    help="End each task that runs so long, from its start on; none lifts the limit.",
)
@retry_option
@click.pass_context
def update(
    ctx: click.Context,
    /,
    *,
    jobs: tuple[str, ...],
    priority: int | None,
    time_limit: float | str | None,
    retry_for: float,
    **filters: Any,
) -> int:
    """Change jobs: those named, or all that match.

    What is not named stays. A new time limit counts for running tasks too. JOB is a number
    (42), last, or name:NAME.
    """
    if priority is None and time_limit is None:
        raise click.UsageError(
            "there is nothing to change: name --priority, --time-limit or both", ctx
        )
    settings: Settings = ctx.obj
    request = requests.update_request(
        jobs,
        user=os_user(),
        filter=chosen_filter(ctx, jobs, **filters),
        priority=priority,
        time_limit=time_limit,
    )
    with settings.session(retry_for) as session:
        response = session.update(request)
    changed = [f"priority {priority}"] if priority is not None else []
    if time_limit is not None:
        limit_ms = request.time_limit_ms
        limit = f"time limit {units.format_duration(limit_ms / 1000)}"
        changed.append(limit if limit_ms else "no time limit")
    tell_changes(settings, response, f"Updated job {{job}}: {', '.join(changed)}")
    return 0
