"""`titan cancel`."""

from __future__ import annotations

from typing import Any

import click

from titan.cli.command import PRINTING, Command, Settings, retry_option
from titan.cli.describe import state_text
from titan.cli.filters import NO_MATCH, chosen_filter, job_options
from titan.cli.params import DURATION
from titan.cli.text import print_json
from titan.client import requests
from titan.client.connection import os_user
from titan.client.cursors import has_ended
from titan.client.views import outcome_view
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan cancel 42
  titan cancel 42.0-9 last
  titan cancel --me --state PENDING
  titan cancel 42 --signal INT --grace 1m
""",
)
@job_options
@click.option(
    "--grace",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="Between the signal and SIGKILL.",
)
@click.option(
    "--signal",
    default="TERM",
    show_default=True,
    metavar="SIG",
    help="Which signal asks it to end, as INT or USR1.",
)
@retry_option
@click.pass_context
def cancel(
    ctx: click.Context,
    /,
    *,
    jobs: tuple[str, ...],
    grace: float,
    signal: str,
    retry_for: float,
    **filters: Any,
) -> int:
    """Cancel jobs: those named, or all that match.

    What waits ends at once. What runs gets SIGTERM, or --signal, and after --grace SIGKILL,
    with all processes that came of it. It is CANCELLED however it takes that. JOB is
    a number (42), tasks of an array (42.7, 42.0-9), last, or name:NAME.
    """
    settings: Settings = ctx.obj
    wanted = chosen_filter(ctx, jobs, **filters)
    try:
        request = requests.cancel_request(
            jobs,
            user=os_user(),
            filter=wanted,
            grace=grace,
            signal=signal,
        )
    except InvalidJob as error:
        raise click.UsageError(str(error), ctx) from error
    with settings.session(retry_for) as session:
        response = session.cancel(request)
    if settings.json:
        print_json([outcome_view(job) for job in response.jobs])
        return 0
    for job in response.jobs:
        print(cancel_sentence(job, had_ended=job.job_id in response.already_ended))
    if not response.jobs:
        print(NO_MATCH)
    return 0


def cancel_sentence(job: manager_pb2.Job, *, had_ended: bool) -> str:
    """What became of it."""
    if had_ended:
        return f"Job {job.job_id} had already ended: {state_text(job)}"
    if has_ended(job):
        return f"Cancelled job {job.job_id}"
    return f"Cancelling job {job.job_id}: {state_text(job)}"
