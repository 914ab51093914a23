"""`titan policy`: how tasks are ordered and placed, shown and set."""

from __future__ import annotations

import click

from titan import units
from titan.cli.command import (
    PRINTING,
    Command,
    CommandGroup,
    Settings,
    check_options_are_behind,
    retry_option,
)
from titan.cli.params import DURATION, USER_CPUS
from titan.cli.text import print_json, printable
from titan.client import requests
from titan.client.connection import os_user
from titan.client.views import policy_view
from titan.rpc.v1 import manager_pb2
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS


@click.group(
    cls=CommandGroup,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan policy
  titan policy set --order fcfs
""",
)
@retry_option
@click.pass_context
def policy(ctx: click.Context, *, retry_for: float) -> int:
    """Show or set how tasks are ordered and placed."""
    if ctx.invoked_subcommand is not None:
        check_options_are_behind(ctx)
        return 0
    return _show(ctx.obj, retry_for)


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Example:
  titan policy show --json
""",
)
@retry_option
@click.pass_obj
def show(settings: Settings, *, retry_for: float) -> int:
    """Show how tasks are ordered and placed."""
    return _show(settings, retry_for)


@click.command(
    "set",
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan policy set --order fcfs --fair-share on
  titan policy set --preempt requeue --reserve-after 5m
  titan policy set --user-cpus 16 --user-cpus ada=64 --user-cpus bob=none
""",
)
@click.option("--policy", type=click.Choice(PLACEMENTS), help="How a worker is chosen for a task.")
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    help="Whether tasks start out of turn: easy where it delays nobody, fcfs never, skip whenever "
    "there is room, easy-sjbf as easy, the shortest first.",
)
@click.option(
    "--fair-share",
    type=click.Choice(("on", "off")),
    help="Within a priority the user goes first whose tasks have the fewest cpus.",
)
@click.option(
    "--preempt",
    type=click.Choice(PREEMPTIONS),
    help="What becomes of preemptible tasks of lower priority where one has no room.",
)
@click.option(
    "--reserve-after",
    type=DURATION,
    metavar="TIME",
    help="Keep a worker for the first in the queue once it has waited so long.",
)
@click.option(
    "--user-cpus",
    type=USER_CPUS,
    multiple=True,
    metavar="[USER=]N|none",
    help="How many cpus of a user may run at once; without USER of each who is not named. "
    "none lifts a limit. May be repeated.",
)
@retry_option
@click.pass_context
def set_policy(
    ctx: click.Context,
    /,
    *,
    policy: str | None,
    order: str | None,
    fair_share: str | None,
    preempt: str | None,
    reserve_after: float | None,
    user_cpus: tuple[tuple[str, int], ...],
    retry_for: float,
) -> int:
    """Set how tasks are ordered and placed.

    What is not named stays. It counts from now on, for tasks that wait already too, and
    after a restart of the manager, whatever that is started with.
    """
    settings: Settings = ctx.obj
    if not user_cpus and all(
        each is None for each in (policy, order, fair_share, preempt, reserve_after)
    ):
        raise click.UsageError("there is nothing to set: name what is to change", ctx)
    request = requests.policy_request(
        user=os_user(),
        placement=policy,
        order=order,
        fair_share=None if fair_share is None else fair_share == "on",
        preempt=preempt,
        reserve_after=reserve_after,
        user_limits={user: cpus_milli / 1000 for user, cpus_milli in user_cpus},
    )
    with settings.session(retry_for) as session:
        response = session.set_policy(request)
    _tell(settings, response)
    return 0


policy.add_command(show)
policy.add_command(set_policy)


def _show(settings: Settings, retry_for: float) -> int:
    with settings.session(retry_for) as session:
        response = session.policy()
    _tell(settings, response)
    return 0


def _tell(settings: Settings, response: manager_pb2.PolicyResponse) -> None:
    if settings.json:
        print_json(policy_view(response))
        return
    for line in policy_lines(response):
        print(line)


def policy_lines(response: manager_pb2.PolicyResponse) -> list[str]:
    """A line for each part of it."""
    policy = response.policy
    return [
        f"{name:<14} {printable(value)}"
        for name, value in (
            ("placement", policy.placement),
            ("order", policy.order),
            ("fair share", "on" if policy.fair_share else "off"),
            ("preempt", policy.preempt),
            ("reserve after", units.format_duration(policy.reserve_after_ms / 1000)),
            ("user cpus", _limits_text(policy)),
            ("set by", "`titan policy set`" if response.was_set else "the manager's options"),
        )
    ]


def _limits_text(policy: manager_pb2.Policy) -> str:
    """`16 each, ada=64, bob=none`."""
    limits = {each.user: each.cpus_milli for each in policy.user_limits}
    each_milli = limits.pop("", 0)
    parts = [f"{units.format_cpus(each_milli)} each" if each_milli else "no limit"]
    parts += [
        f"{user}={units.format_cpus(milli) if milli else 'none'}"
        for user, milli in sorted(limits.items())
    ]
    return ", ".join(parts)
