"""`titan logs`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import click

from titan.cli.command import CALLING, Command, Settings, retry_option, say
from titan.cli.describe import task_text
from titan.cli.stream import Printer, TaskPrinter, print_side_by_side, print_task, task_indexes
from titan.client import requests, retry
from titan.client.aio_session import AioSession
from titan.client.connection import os_user
from titan.client.cursors import OutputCursor
from titan.errors import NotFound
from titan.rpc.v1 import manager_pb2


class Wanted(NamedTuple):
    """Which output."""

    attempt: int
    streams: tuple[str, ...]
    tail_lines: int
    follow: bool


@click.command(
    cls=Command,
    takes=CALLING,
    epilog="""\b
Examples:
  titan logs 42
  titan logs -f last
  titan logs --tail 20 --stderr 42.7
""",
)
@click.argument("job", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="Begin N lines before the end.")
@click.option("--stdout", is_flag=True, help="Only what it wrote to stdout.")
@click.option("--stderr", is_flag=True, help="Only what it wrote to stderr.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Its N-th attempt [the last].")
@retry_option
@click.pass_obj
def logs(
    settings: Settings,
    *,
    job: str,
    follow: bool,
    tail: int | None,
    stdout: bool,
    stderr: bool,
    attempt: int | None,
    retry_for: float,
) -> int:
    """Print what a job wrote: its stdout to stdout, its stderr to stderr, unchanged.

    JOB is a number (42), a task of an array (42.7, 42.0-9), last, or name:NAME. The
    lines of an array begin with their task, as in `42.7| `.
    """
    names = (("stdout", stdout), ("stderr", stderr))
    streams = tuple(name for name, is_wanted in names if is_wanted)
    wanted = Wanted(attempt or 0, streams, tail or 0, follow)
    selector = requests.job_selector(job, os_user())
    settings.check_address()
    return asyncio.run(_logs(settings, selector, wanted, retry_for))


async def _logs(
    settings: Settings, selector: manager_pb2.JobSelector, wanted: Wanted, retry_for: float
) -> int:
    async with settings.aio_session(retry_for) as session:
        job = (await session.status(manager_pb2.GetJobStatusRequest(job=selector))).job
        if wanted.follow:
            session.retry_for_ever()
        await Logs(session, job, selector, wanted).print_all()
    return 0


class Logs:
    """The output of a job's tasks, printed."""

    def __init__(
        self,
        session: AioSession,
        job: manager_pb2.Job,
        selector: manager_pb2.JobSelector,
        wanted: Wanted,
    ) -> None:
        self._session = session
        self._job = job
        self._wanted = wanted
        self._indexes = list(selector.indexes) or list(job.array)
        self._is_one = sum(1 for _, __ in zip(range(2), self._all(), strict=False)) == 1
        self._printer = Printer()
        # Of an array: of how many tasks there is nothing, and why of the first.
        self._missing = 0
        self._why_missing = ""

    async def print_all(self) -> None:
        """Task by task, or when following side by side."""
        if self._wanted.follow and not self._is_one:
            await print_side_by_side(self._all(), self._print)
        else:
            for index in self._all():
                await self._print(index)
        if self._missing:
            more = f" (as of {self._missing - 1:,} more tasks)" if self._missing > 1 else ""
            say(f"{self._why_missing}{more}")

    def _all(self) -> Iterator[int]:
        return task_indexes(self._indexes)

    async def _print(self, index: int) -> None:
        wanted = self._wanted
        cursor = OutputCursor(
            self._job.job_id,
            index,
            attempt=wanted.attempt,
            streams=wanted.streams,
            tail_lines=wanted.tail_lines,
            follow=wanted.follow,
        )
        printer = TaskPrinter(
            self._printer, "" if self._is_one else f"{self._job.job_id}.{index}| "
        )
        patience = retry.WORKER_PATIENCE_SECONDS if wanted.follow else 0
        try:
            await print_task(self._session, cursor, printer, patience_seconds=patience)
        except NotFound as error:
            # The job is there; of many tasks those without output are told of together.
            if self._is_one:
                say(str(error) or f"job {task_text(self._job, index)} has written nothing yet")
            else:
                self._missing += 1
                self._why_missing = self._why_missing or str(error)
