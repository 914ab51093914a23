"""The options that choose jobs, shared by `queue` and `cancel`."""

from __future__ import annotations

from typing import Any

import click

from titan.client import requests
from titan.client.connection import os_user
from titan.model import State
from titan.rpc.v1 import manager_pb2

_STATES = [state.name for state in State if state <= State.CANCELLED]


def filter_options(function: Any) -> Any:
    """Adds --state, --user, --me and --name."""
    for option in (
        click.option("--name", metavar="NAME", help="Jobs of that name."),
        click.option("--me", is_flag=True, help="My own jobs."),
        click.option("--user", metavar="USER", help="Jobs of that user."),
        click.option(
            "--state",
            type=click.Choice(_STATES, case_sensitive=False),
            multiple=True,
            help="Jobs in that state. May be repeated.",
        ),
    ):
        function = option(function)
    return function


def job_filter(
    *,
    all: bool,  # noqa: A002 - the option's name
    state: tuple[str, ...],
    user: str | None,
    me: bool,
    name: str | None,
) -> manager_pb2.JobFilter:
    """What those options ask for."""
    if me and user:
        raise click.UsageError("--me and --user name two users: give one of them")
    return requests.job_filter(all=all, states=state, user=os_user() if me else user, name=name)
