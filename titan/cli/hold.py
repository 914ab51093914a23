"""`titan hold` and `titan release`."""

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
  titan hold 42
  titan hold --me --state PENDING
""",
)
@job_options
@retry_option
@click.pass_context
def hold(ctx: click.Context, /, *, jobs: tuple[str, ...], retry_for: float, **filters: Any) -> int:
    """Hold jobs back: those named, or all that match.

    None of their tasks starts until `titan release`; what runs runs on. It outlasts restarts
    of the manager. JOB is a number (42), last, or name:NAME.
    """
    _send(ctx.obj, _request(ctx, jobs, filters), retry_for, "Held job {job}")
    return 0


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan release 42
  titan release --me
""",
)
@job_options
@retry_option
@click.pass_context
def release(
    ctx: click.Context, /, *, jobs: tuple[str, ...], retry_for: float, **filters: Any
) -> int:
    """Release held jobs: those named, or all that match.

    Their tasks start when their turn comes. JOB is a number (42), last, or name:NAME.
    """
    request = _request(ctx, jobs, filters, release=True)
    _send(ctx.obj, request, retry_for, "Released job {job}")
    return 0


def _request(
    ctx: click.Context, jobs: tuple[str, ...], filters: dict[str, Any], *, release: bool = False
) -> manager_pb2.HoldJobRequest:
    wanted = chosen_filter(ctx, jobs, **filters)
    return requests.hold_request(jobs, user=os_user(), filter=wanted, release=release)


def _send(
    settings: Settings, request: manager_pb2.HoldJobRequest, retry_for: float, sentence: str
) -> None:
    with settings.session(retry_for) as session:
        response = session.hold(request)
    tell_changes(settings, response, sentence)
