"""`titan wait`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final

import click

from titan import units
from titan.cli.command import OWN_FAILURE, PRINTING, Command, Settings, say
from titan.cli.describe import (
    ended_tasks,
    first_failure,
    job_exit_code,
    outcome_sentence,
    total_tasks,
)
from titan.cli.params import DURATION
from titan.cli.progress import ProgressBar
from titan.cli.stream import task_indexes
from titan.cli.text import print_json, printable
from titan.client import requests, retry
from titan.client.aio_session import AioSession
from titan.client.connection import os_user
from titan.client.cursors import WatchCursor, has_ended
from titan.client.names import format_selector
from titan.client.tasks import narrow
from titan.client.views import outcome_view
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2

# Asked for at once when many jobs are named.
_CALLS_MAX: Final = 32
# What the manager lists of one job, and so how many tasks can be waited for by index.
_ATTEMPTS_MAX: Final = 10_000


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan wait 42
  titan wait 42 43 name:prepare --timeout 1h
  titan wait 42.0-9
""",
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after that long.")
@click.pass_obj
def wait(settings: Settings, *, jobs: tuple[str, ...], timeout: float | None) -> int:
    """Wait until jobs have ended, and exit as they did.

    Of several the first that did not exit 0 decides. JOB is a number (42), tasks of an
    array (42.7, 42.0-9), last, or name:NAME. A restart of the manager is waited out.
    """
    return wait_for_jobs(settings, jobs, timeout=timeout)


def wait_for_jobs(
    settings: Settings, jobs: Sequence[str], *, timeout: float | None = None, quiet: bool = False
) -> int:
    """Waits and tells; `quiet` keeps stdout as it is. Returns the exit code."""
    selectors = [requests.job_selector(job, os_user()) for job in jobs]
    settings.failure_code = OWN_FAILURE
    return asyncio.run(_wait(settings, selectors, timeout, quiet=quiet))


async def _wait(
    settings: Settings,
    selectors: Sequence[manager_pb2.JobSelector],
    timeout: float | None,  # noqa: ASYNC109 - a deadline for a watch, not for one await
    *,
    quiet: bool,
) -> int:
    settings.check_address()
    end = None if timeout is None else time.monotonic() + timeout
    async with settings.aio_session(retry.FOR_EVER) as session:
        waiting = Waiting(session)
        bar = ProgressBar("waiting")
        drawing = asyncio.create_task(bar.keep_current())
        try:
            await waiting.start(selectors)
            async with aclosing(waiting.changes(end)) as changes:
                async for ended in changes:
                    bar.show(**waiting.progress())
                    for place in ended if not settings.json else ():
                        with bar.hidden():
                            out = sys.stderr if quiet else sys.stdout
                            print(printable(waiting.sentence(place)), file=out, flush=True)
        finally:
            bar.close()
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
    if waiting.open:
        names = ", ".join(format_selector(selector) for selector in waiting.open)
        say(f"not ended after {units.format_duration(timeout or 0)}: {names}")
        return OWN_FAILURE
    jobs = waiting.ended_in_order()
    if settings.json and not quiet:
        print_json([outcome_view(job) for job in jobs])
    return first_failure(job_exit_code(job) for job in jobs)


class Waiting:
    """Jobs, or tasks of arrays, until all have ended."""

    def __init__(self, session: AioSession) -> None:
        self._session = session
        self._room = asyncio.Semaphore(_CALLS_MAX)
        self._selectors: list[manager_pb2.JobSelector] = []
        self._jobs: list[manager_pb2.Job] = []

    @property
    def open(self) -> list[manager_pb2.JobSelector]:
        """Those that have not ended."""
        return [self._selectors[place] for place in self._open_places()]

    def ended_in_order(self) -> list[manager_pb2.Job]:
        """All, in the order in which they were named."""
        return self._jobs

    def progress(self) -> dict[str, int]:
        """Counts over all of them."""
        return {
            "ended": sum(ended_tasks(job) for job in self._jobs),
            "total": sum(total_tasks(job) for job in self._jobs),
            "failed": sum(job.tasks.failed for job in self._jobs),
        }

    async def start(self, selectors: Sequence[manager_pb2.JobSelector]) -> None:
        """Asks how they are now. Raises NotFound, InvalidJob."""
        for selector in selectors:
            if sum(1 for _ in islice(task_indexes(selector.indexes), _ATTEMPTS_MAX + 1)) > (
                _ATTEMPTS_MAX
            ):
                raise InvalidJob(
                    f"at most {_ATTEMPTS_MAX:,} tasks can be waited for by index; "
                    f"wait for the whole job: {selector.job_id}"
                )
        self._selectors = list(selectors)
        self._jobs = await self._ask(selectors)
        for selector, job in zip(self._selectors, self._jobs, strict=True):
            # `last` and a name mean what they meant when the wait began.
            selector.job_id = job.job_id

    def sentence(self, place: int) -> str:
        """How one of them ended."""
        return outcome_sentence(self._jobs[place], format_selector(self._selectors[place]))

    async def changes(self, end: float | None) -> AsyncGenerator[list[int], None]:
        """The places of those that ended since the last time; perhaps none, when others changed."""
        yield [place for place, job in enumerate(self._jobs) if has_ended(job)]
        if not self.open:
            return
        cursor = WatchCursor(selector.job_id for selector in self.open)
        async with aclosing(self._session.watch(cursor, end=end)) as changes:
            async for changed in changes:
                yield await self._take({job.job_id: job for job in changed})
                if not self.open:
                    return

    async def _take(self, changed: dict[int, manager_pb2.Job]) -> list[int]:
        places = [p for p in self._open_places() if self._selectors[p].job_id in changed]
        partial = [p for p in places if self._selectors[p].indexes]
        # A watch tells of whole jobs; tasks are asked for.
        answers = await self._ask([self._selectors[place] for place in partial])
        asked = dict(zip(partial, answers, strict=True))
        for place in places:
            whole = changed[self._selectors[place].job_id]
            self._jobs[place] = asked.get(place, whole)
        return [place for place in places if has_ended(self._jobs[place])]

    async def _ask(self, selectors: Sequence[manager_pb2.JobSelector]) -> list[manager_pb2.Job]:
        async def ask(selector: manager_pb2.JobSelector) -> manager_pb2.Job:
            async with self._room:
                request = manager_pb2.GetJobStatusRequest(job=selector)
                if selector.indexes:
                    request.attempts_limit = _ATTEMPTS_MAX
                answer = await self._session.status(request)
                if not selector.indexes:
                    return answer.job
                return narrow(answer.job, answer.attempts, selector.indexes)

        return list(await asyncio.gather(*(ask(selector) for selector in selectors)))

    def _open_places(self) -> Iterator[int]:
        return (place for place, job in enumerate(self._jobs) if not has_ended(job))
