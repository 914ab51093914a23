"""`titan drain` and `titan undrain`."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import click

from titan import units
from titan.cli.command import FAILED, PRINTING, Command, Settings, retry_option, say
from titan.cli.describe import drain_sentence, held_text, is_drained
from titan.cli.params import DURATION
from titan.cli.text import print_json, printable
from titan.client import requests
from titan.client.aio_session import AioSession
from titan.client.connection import os_user
from titan.client.views import worker_view
from titan.rpc.v1 import manager_pb2

# A worker drains for as long as its tasks run.
_LOOK_SECONDS: Final = 0.5


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan drain w1 --reason 'new kernel' --wait
  titan drain w1 w2 --wait --timeout 1h && reboot-them
""",
)
@click.argument("workers", nargs=-1, required=True, metavar="WORKER…")
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who look.")
@click.option("--wait", is_flag=True, help="Wait until nothing is left there.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="With --wait: give up after that.")
@retry_option
@click.pass_context
def drain(
    ctx: click.Context,
    *,
    workers: tuple[str, ...],
    reason: str,
    wait: bool,
    timeout: float | None,
    retry_for: float,
) -> int:
    """Give workers no new tasks, until `titan undrain`.

    What runs there runs on; what waits there goes elsewhere. It outlasts restarts of the
    worker and of the manager. WORKER is a name, or an id as --json shows it.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long --wait may take: give both", ctx)
    request = requests.drain_request(workers, user=os_user(), reason=reason)
    return asyncio.run(_drain(ctx.obj, request, retry_for, wait=wait, timeout=timeout))


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Example:
  titan undrain w1
""",
)
@click.argument("workers", nargs=-1, required=True, metavar="WORKER…")
@retry_option
@click.pass_obj
def undrain(settings: Settings, *, workers: tuple[str, ...], retry_for: float) -> int:
    """Give workers tasks again that were drained."""
    request = requests.drain_request(workers, user=os_user(), undrain=True)
    with settings.session(retry_for) as session:
        answer = session.drain(request)
    _tell(settings, list(answer.workers))
    return 0


async def _drain(
    settings: Settings,
    request: manager_pb2.DrainWorkerRequest,
    retry_for: float,
    *,
    wait: bool,
    timeout: float | None,  # noqa: ASYNC109 - a deadline for many calls
) -> int:
    settings.check_address()
    end = None if timeout is None else time.monotonic() + timeout
    async with settings.aio_session(retry_for) as session:
        workers = list((await session.drain(request)).workers)
        if not wait:
            _tell(settings, workers)
            return 0
        session.retry_for_ever()
        watch = _Watch(workers)
        while watch.open and (end is None or time.monotonic() < end):
            await asyncio.sleep(_LOOK_SECONDS)
            await watch.look(session)
    _tell(settings, watch.workers)
    if watch.open:
        names = ", ".join(f"{each.name} ({held_text(each)})" for each in watch.open)
        say(f"not drained after {units.format_duration(timeout or 0)}: {names}")
    for each in watch.lifted:
        say(f"{each.name} is not draining any more: somebody gave it tasks again")
    return FAILED if watch.open or watch.lifted else 0


def _tell(settings: Settings, workers: list[manager_pb2.Worker]) -> None:
    if settings.json:
        print_json([worker_view(each) for each in workers])
        return
    for each in workers:
        print(printable(drain_sentence(each)))


class _Watch:
    """Workers on their way to be drained. Says on stderr what is left there, when it changes."""

    def __init__(self, workers: list[manager_pb2.Worker]) -> None:
        self.workers = workers
        self._told: dict[bytes, str] = {}
        self._say_what_is_left()

    @property
    def lifted(self) -> list[manager_pb2.Worker]:
        """Those whose drain was lifted meanwhile."""
        return [each for each in self.workers if not each.draining]

    @property
    def open(self) -> list[manager_pb2.Worker]:
        """Those that drain and still hold something."""
        return [each for each in self.workers if each.draining and not is_drained(each)]

    async def look(self, session: AioSession) -> None:
        """Asks how they are now. One that took its leave holds nothing."""
        listed = {each.worker_id: each for each in (await session.workers()).workers}
        self.workers = [listed.get(each.worker_id) or _gone(each) for each in self.workers]
        self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        for each in self.open:
            left = held_text(each)
            if self._told.get(each.worker_id) != left:
                self._told[each.worker_id] = left
                print(printable(f"{each.name}: {left}"), file=sys.stderr, flush=True)


def _gone(worker: manager_pb2.Worker) -> manager_pb2.Worker:
    last = manager_pb2.Worker()
    last.CopyFrom(worker)
    last.running = last.queued = 0
    return last
