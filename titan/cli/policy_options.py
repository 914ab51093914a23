"""How a manager orders and places tasks: options shared by `manager` and `dev`."""

from __future__ import annotations

from typing import Any, Final

import click
from click.core import ParameterSource

from titan import units
from titan.cli.params import CPUS_LIMIT, DURATION
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS

_OPTIONS: Final = (
    click.option(
        "--policy",
        type=click.Choice(PLACEMENTS),
        default=PLACEMENTS[0],
        show_default=True,
        help="How a worker is chosen for a task.",
    ),
    click.option(
        "--order",
        type=click.Choice(ORDERS),
        default=ORDERS[0],
        show_default=True,
        help="Whether tasks start out of turn: easy where it delays nobody, fcfs never, skip "
        "whenever there is room, easy-sjbf as easy, the shortest first.",
    ),
    click.option(
        "--fair-share",
        is_flag=True,
        help="Within a priority the user goes first whose tasks have the fewest cpus.",
    ),
    click.option(
        "--preempt",
        type=click.Choice(PREEMPTIONS),
        default=PREEMPTIONS[0],
        show_default=True,
        help="What becomes of preemptible tasks of lower priority where one has no room.",
    ),
    click.option(
        "--reserve-after",
        type=DURATION,
        default="60s",
        show_default=True,
        metavar="TIME",
        help="Keep a worker for the first in the queue once it has waited so long.",
    ),
    click.option(
        "--user-cpus",
        type=CPUS_LIMIT,
        default="none",
        show_default=True,
        metavar="N|none",
        help="How many cpus of each user may run at once.",
    ),
)


def policy_options(function: Any) -> Any:
    """Adds them. What `titan policy set` has set wins over them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def words_of(ctx: click.Context, given: dict[str, Any]) -> list[str]:
    """Those that were given, as they are written on the command line of a manager."""
    words: list[str] = []
    for name, value in given.items():
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT:
            continue
        option = f"--{name.replace('_', '-')}"
        match name:
            case "fair_share":
                words += [option] if value else []
            case "reserve_after":
                words += [option, units.format_duration(value)]
            case "user_cpus":
                words += [option, units.format_cpus(value)]
            case _:
                words += [option, value]
    return words
