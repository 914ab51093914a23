"""`titan top`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Final

import click

from titan.cli.command import CALLING, Command, Settings, retry_option, say
from titan.cli.filters import filter_options, job_filter
from titan.cli.params import DURATION
from titan.cli.text import is_terminal
from titan.client import retry
from titan.client.connection import os_user
from titan.errors import TitanError
from titan.rpc.v1 import manager_pb2

# Oftener a person sees no difference, and the manager does.
INTERVAL_SECONDS_MIN: Final = 0.1


@click.command(
    cls=Command,
    takes=CALLING,
    epilog="""\b
Examples:
  titan top
  titan top --me
  titan top --state RUNNING --interval 5s
""",
)
@click.option(
    "--interval",
    type=DURATION,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="How often to look.",
)
@click.option("--all", is_flag=True, help="Those that have ended too, the newest first.")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    metavar="N",
    help="List at most so many jobs.",
)
@retry_option
@click.pass_obj
def top(
    settings: Settings,
    *,
    interval: float,
    all: bool,  # noqa: A002 - the option's name
    state: tuple[str, ...],
    user: str | None,
    me: bool,
    name: str | None,
    limit: int,
    retry_for: float,
) -> int:
    """Show workers and jobs live, with keys to look closer and to act.

    Jobs that run come first, then the head of the queue. The key ? tells the keys: among
    them those that sort, filter, follow a job's output, tell why it waits, cancel or hold
    it, and drain a worker.
    """
    if interval < INTERVAL_SECONDS_MIN:
        raise click.BadParameter("0.1s is the least", param_hint="--interval")
    wanted = job_filter(all=all, state=state, user=user, me=me, name=name)
    if not all_terminals():
        raise TitanError(
            "top draws on a terminal, and this is none; "
            "`titan queue`, `titan workers` and `titan stats` print"
        )
    settings.check_address()
    return asyncio.run(_run(settings, wanted, limit, interval, retry_for))


def all_terminals() -> bool:
    """Whether keys come from a terminal, and drawing goes to one: textual does it on stderr."""
    return sys.stdin.isatty() and is_terminal(sys.stdout) and is_terminal(sys.stderr)


class _Notices:
    """Where what connections have to say goes: to stderr, and once there is a screen to that."""

    def __init__(self) -> None:
        self.tell: Callable[[str], None] = say

    def __call__(self, sentence: str) -> None:
        self.tell(sentence)


async def _run(
    settings: Settings,
    wanted: manager_pb2.JobFilter,
    limit: int,
    interval: float,
    retry_for: float,
) -> int:
    try:
        from titan.cli.top.app import TopApp  # noqa: PLC0415 - an extra, and slow
        from titan.cli.top.feed import Feed  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise TitanError("top needs textual: pip install 'titan-scheduler[top]'") from error
    notices = _Notices()
    async with (
        settings.aio_session(retry.FOR_EVER, notices) as session,
        settings.aio_session(retry_for, notices) as control,
    ):
        # A manager that is not there ends it before there is a screen.
        await session.stats()
        app = TopApp(
            session,
            control,
            Feed(session, wanted, limit),
            user=os_user(),
            interval_seconds=interval,
        )
        notices.tell = app.tell_trouble
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.action_leave, 128 + number)
        # Without the mouse the terminal's own selection of text goes on to work.
        await app.run_async(mouse=False)
        return app.return_code or 0
