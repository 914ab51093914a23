"""`titan run`: a job in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing, nullcontext
from types import FrameType
from typing import Any, Final

import click

from titan.cli.command import CALLING, OWN_FAILURE, Command, Settings, retry_option, say
from titan.cli.describe import ended_tasks, job_exit_code, outcome_sentence, total_tasks
from titan.cli.main import INTERRUPTED
from titan.cli.progress import ProgressBar
from titan.cli.spec_options import CONTEXT, spec_options, submit_request
from titan.cli.stream import (
    Printer,
    TaskPrinter,
    print_running_task,
    print_side_by_side,
    task_indexes,
)
from titan.cli.text import printable
from titan.client import requests
from titan.client.aio_session import AioSession
from titan.client.connection import os_user
from titan.client.cursors import Ends, OutputCursor, WatchCursor
from titan.errors import TitanError
from titan.rpc.v1 import manager_pb2

# For the output that is still on its way when the job's end is known.
_DRAIN_SECONDS: Final = 30.0


@click.command(
    cls=Command,
    takes=CALLING,
    context_settings=dict(CONTEXT),
    epilog="""\b
Examples:
  titan run make test
  titan run --cpus 4 -- python train.py --epochs 10
  titan run --array 0-9 --shell 'echo $TITAN_TASK_INDEX'
  titan run --time-limit 10m make test
""",
)
@spec_options
@retry_option
@click.pass_context
def run(ctx: click.Context, /, *, retry_for: float, **spec: Any) -> int:
    """Submit a job, show its output live and exit as it did.

    Ctrl-C cancels the job; a second one leaves at once. Options come before COMMAND;
    what follows it belongs to it.
    """
    settings: Settings = ctx.obj
    request = submit_request(ctx, **spec)
    settings.check_address()
    settings.failure_code = OWN_FAILURE
    return asyncio.run(_run(settings, request, retry_for))


async def _run(settings: Settings, request: manager_pb2.SubmitJobRequest, retry_for: float) -> int:
    async with settings.aio_session(retry_for) as session:
        job_id = (await session.submit(request)).job_ids[0]
        session.retry_for_ever()
        foreground = Foreground(session, job_id, request.jobs[0])
        try:
            job = await foreground.follow()
        except BrokenPipeError:
            # As a program that writes to a closed pipe is ended by it.
            await foreground.cancel()
            raise
        finally:
            foreground.close()
    print(printable(outcome_sentence(job)), file=sys.stderr)
    return job_exit_code(job)


class Foreground:
    """A job whose output is shown here, and that ends with this process's Ctrl-C."""

    def __init__(self, session: AioSession, job_id: int, spec: manager_pb2.JobSpec) -> None:
        self._session = session
        self._job_id = job_id
        self._spec = spec
        self._ended = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._bar = ProgressBar(f"job {job_id}", is_wanted=bool(spec.array))
        self._printer = Printer(self._bar.hidden if sys.stdout.isatty() else nullcontext)
        self._former = signal.signal(signal.SIGINT, self._on_interrupt)

    def close(self) -> None:
        """Gives Ctrl-C and the terminal back."""
        signal.signal(signal.SIGINT, self._former)
        self._bar.close()

    async def follow(self) -> manager_pb2.Job:
        """Shows the output until the job has ended, and returns how."""
        watching = asyncio.create_task(self._watch())
        printing = asyncio.create_task(self._print())
        beside = [
            asyncio.create_task(self._cancel_if_interrupted()),
            asyncio.create_task(self._bar.keep_current()),
        ]
        try:
            await asyncio.wait({watching, printing}, return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                await printing
            job = await watching
            await self._drain(printing)
            return job
        finally:
            for task in (watching, printing, *beside):
                task.cancel()
            await asyncio.gather(watching, printing, *beside, return_exceptions=True)

    async def cancel(self) -> None:
        """Asks for its end."""
        await self._session.cancel(
            requests.cancel_request([self._job_id], user=os_user(), grace=requests.GRACE_SECONDS)
        )

    async def _watch(self) -> manager_pb2.Job:
        ends = Ends([self._job_id])
        async with aclosing(self._session.watch(WatchCursor([self._job_id]))) as changes:
            async for changed in changes:
                ends.take(changed)
                for job in changed:
                    self._bar.show(
                        ended=ended_tasks(job), total=total_tasks(job), failed=job.tasks.failed
                    )
                if ends.ended:
                    self._ended.set()
                    return ends.ended[self._job_id]
        raise AssertionError("a watch without an end ended")

    async def _print(self) -> None:
        await print_side_by_side(task_indexes(self._spec.array), self._print_task)

    async def _print_task(self, index: int) -> None:
        cursor = OutputCursor(self._job_id, index, follow=True)
        prefix = f"{self._job_id}.{index}| " if self._spec.array else ""
        printer = TaskPrinter(self._printer, prefix)
        await print_running_task(self._session, cursor, printer, self._ended)

    async def _drain(self, printing: asyncio.Task[None]) -> None:
        """Waits for the rest of the output as long as any comes."""
        written = -1
        while not printing.done() and written != self._printer.written_bytes:
            written = self._printer.written_bytes
            await asyncio.wait({printing}, timeout=_DRAIN_SECONDS)
        if printing.done():
            await printing
        else:
            say(f"the rest of the output does not arrive; see `titan logs {self._job_id}`")

    async def _cancel_if_interrupted(self) -> None:
        await self._interrupted.wait()
        with self._bar.hidden():
            say(f"cancelling job {self._job_id}; Ctrl-C again leaves at once")
        try:
            await self.cancel()
        except TitanError as error:
            say(str(error))

    def _on_interrupt(self, _: int, __: FrameType | None) -> None:
        # A plain handler, not one of the loop: it also runs while the loop is held up by a
        # write to a pipe that nobody empties.
        if self._interrupted.is_set():
            self._bar.close()
            os._exit(INTERRUPTED)
        self._interrupted.set()
        # Wakes the loop, which may be asleep.
        self._loop.call_soon_threadsafe(lambda: None)
