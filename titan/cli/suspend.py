"""`titan suspend` and `titan resume`."""

from __future__ import annotations

from typing import Any

import click

from titan.cli.changes import tell_changes
from titan.cli.command import PRINTING, Command, Settings, retry_option
from titan.cli.filters import chosen_filter, job_options
from titan.client import requests
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan suspend 42
  titan suspend --me --name train
""",
)
@job_options
@retry_option
@click.pass_context
def suspend(
    ctx: click.Context, /, *, jobs: tuple[str, ...], retry_for: float, **filters: Any
) -> int:
    """Suspend jobs: those named, or all that match.

    Their running tasks are stopped where they are. They keep their memory, and leave their
    cpus to others until `titan resume`; what waits is not started. JOB is a number (42),
    last, or name:NAME.
    """
    _send(ctx.obj, _request(ctx, jobs, filters), retry_for, "Suspended job {job}")
    return 0


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan resume 42
  titan resume --me
""",
)
@job_options
@retry_option
@click.pass_context
def resume(
    ctx: click.Context, /, *, jobs: tuple[str, ...], retry_for: float, **filters: Any
) -> int:
    """Resume suspended jobs: those named, or all that match.

    Their tasks run on from where they were stopped, as soon as their cpus are free. JOB is
    a number (42), last, or name:NAME.
    """
    request = _request(ctx, jobs, filters, resume=True)
    _send(ctx.obj, request, retry_for, "Resumed job {job}")
    return 0


def _request(
    ctx: click.Context, jobs: tuple[str, ...], filters: dict[str, Any], *, resume: bool = False
) -> manager_pb2.SuspendJobRequest:
    wanted = chosen_filter(ctx, jobs, **filters)
    return requests.suspend_request(jobs, user=os_user(), filter=wanted, resume=resume)


def _send(
    settings: Settings, request: manager_pb2.SuspendJobRequest, retry_for: float, sentence: str
) -> None:
    with settings.session(retry_for) as session:
        response = session.suspend(request)
    tell_changes(settings, response, sentence)
