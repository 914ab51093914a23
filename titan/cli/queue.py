"""`titan queue`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import click

from titan import units
from titan.cli.command import (
    READING_STALE,
    Command,
    Settings,
    retry_option,
    say,
    say_how_far,
    time_of,
)
from titan.cli.describe import ended_tasks, state_text, total_tasks, why_ended
from titan.cli.filters import filter_options, job_filter
from titan.cli.table import print_table
from titan.cli.text import is_terminal, print_json
from titan.client import retry
from titan.client.cursors import WatchCursor, has_ended
from titan.rpc.v1 import manager_pb2, types_pb2

HEADINGS: Final = (
    "JOB",
    "NAME",
    "USER",
    "STATE",
    "TASKS",
    "CPUS",
    "MEMORY",
    "PRIORITY",
    "AGE",
    "WORKER/REASON",
)
RIGHT: Final = ("JOB", "TASKS", "CPUS", "MEMORY", "PRIORITY", "AGE")
# Redrawn at most so often, however much happens.
_REDRAW_SECONDS: Final = 0.25


@click.command(
    cls=Command,
    takes=READING_STALE,
    epilog="""\b
Examples:
  titan queue
  titan queue --me -w
  titan queue --all --state FAILED --limit 20
  titan queue --at 14:02
""",
)
@click.option("--all", is_flag=True, help="Those that have ended too, the newest first.")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="List at most so many.",
)
@click.option("-w", "--watch", is_flag=True, help="Show it again at every change.")
@retry_option
@click.pass_obj
def queue(
    settings: Settings,
    *,
    all: bool,  # noqa: A002 - the option's name
    state: tuple[str, ...],
    user: str | None,
    me: bool,
    name: str | None,
    limit: int,
    watch: bool,
    retry_for: float,
) -> int:
    """List jobs: those that have not ended, the oldest first."""
    wanted = job_filter(all=all, state=state, user=user, me=me, name=name)
    if watch:
        if settings.json:
            raise click.UsageError("--watch is for people, --json for programs: give one of them")
        if settings.at is not None or settings.data_place is not None:
            raise click.UsageError("--watch shows what is now: leave out --at and --data-dir")
        if settings.is_stale:
            raise click.UsageError("--watch is told by the manager that leads: leave out --stale")
        settings.check_address()
        asyncio.run(_watch(settings, wanted, limit))
        return 0
    with settings.reader(retry_for) as session:
        listed = session.list_jobs(wanted, limit, settings.at, stale=settings.is_stale)
    if settings.json:
        from titan.client.views import job_view  # noqa: PLC0415 - only here

        print_json([job_view(job) for job in listed.jobs])
        return 0
    say_how_far(settings, listed)
    print_queue(listed.jobs, time_of(listed))
    if listed.more:
        say(f"there are more than {limit} jobs; --limit {limit * 10} shows more")
    return 0


def print_queue(jobs: Sequence[manager_pb2.Job], now: float) -> None:
    """The table; ages count to `now`."""
    print_table(
        HEADINGS,
        [queue_row(job, now) for job in jobs],
        right=RIGHT,
        cut=("NAME", "WORKER/REASON"),
    )


def queue_row(job: manager_pb2.Job, now: float) -> tuple[str, ...]:
    """A job's line."""
    return (
        str(job.job_id),
        job.name,
        job.user,
        state_text(job),
        f"{ended_tasks(job)}/{total_tasks(job)}",
        units.format_cpus(job.resources.cpus_milli),
        units.format_size(job.resources.memory_bytes),
        str(job.priority),
        units.format_age(now - job.submit_us / 1e6),
        _worker_or_reason(job),
    )


def _worker_or_reason(job: manager_pb2.Job) -> str:
    if has_ended(job):
        return why_ended(job) or job.worker
    if job.state == types_pb2.PENDING:
        # Its worker is where it was tried last.
        return job.waiting_for
    return job.worker or job.waiting_for


async def _watch(settings: Settings, wanted: manager_pb2.JobFilter, limit: int) -> None:
    async with settings.aio_session(retry.FOR_EVER) as session:
        listed = await session.list_jobs(wanted, limit)
        _redraw(listed.jobs)
        cursor = WatchCursor(after_lsn=listed.lsn)
        changed = asyncio.Event()

        async def watch() -> None:
            async with aclosing(session.watch(cursor)) as changes:
                async for jobs in changes:
                    if jobs:
                        changed.set()

        async def redraw() -> None:
            while True:
                await changed.wait()
                changed.clear()
                _redraw((await session.list_jobs(wanted, limit)).jobs)
                await asyncio.sleep(_REDRAW_SECONDS)

        await asyncio.gather(watch(), redraw())


def _redraw(jobs: Sequence[manager_pb2.Job]) -> None:
    if not is_terminal(sys.stdout):
        print_queue(jobs, time.time())
        print(flush=True)
        return
    # What does not fit would scroll the top away.
    from shutil import get_terminal_size  # noqa: PLC0415 - slow, and only here

    room = get_terminal_size().lines - 2
    sys.stdout.write("\x1b[H\x1b[2J")
    print_queue(jobs[:room] if room > 0 else jobs, time.time())
    if len(jobs) > room:
        print(f"… and {len(jobs) - room} more", end="")
    sys.stdout.flush()
