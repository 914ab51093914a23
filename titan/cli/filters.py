"""The options that choose jobs, shared by all that list and change them."""

from __future__ import annotations

from typing import Any, Final

import click

from titan.client import requests
from titan.client.connection import os_user
from titan.model import State
from titan.rpc.v1 import manager_pb2

NO_MATCH: Final = "No job matches."
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
    return requests.job_filter(
        all=all, states=state, user=os_user() if me else user, name=name, mine=me
    )


def job_options(function: Any) -> Any:
    """Adds jobs by name and those filters; the command hands them on to `chosen_filter`."""
    return click.argument("jobs", nargs=-1, metavar="[JOB…]")(filter_options(function))


def chosen_filter(
    ctx: click.Context,
    jobs: tuple[str, ...],
    *,
    state: tuple[str, ...],
    user: str | None,
    me: bool,
    name: str | None,
) -> manager_pb2.JobFilter | None:
    """The filter that is in place of jobs; None: they are named. Both or neither is a mistake."""
    is_filtered = bool(state or user or me or name)
    if bool(jobs) == is_filtered:
        raise click.UsageError(
            "name jobs, such as 42, or filter them, such as --me --state PENDING: one of both", ctx
        )
    wanted = job_filter(all=False, state=state, user=user, me=me, name=name)
    return wanted if is_filtered else None
