"""`titan dev`: a manager and workers on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from titan import paths, units
from titan.cli.command import FAILED, Command, say
from titan.cli.dev_processes import (
    REST_SECONDS,
    Child,
    DataDirectory,
    become_subreaper,
    end_rest,
    find_address,
    stop_all,
)
from titan.cli.dev_telling import tell_faults, tell_jobs
from titan.cli.dev_web import DevWeb, find_web
from titan.cli.main import INTERRUPTED
from titan.cli.params import ADDRESS, ADDRESS_OR_NONE, COUNT, CPUS, HISTORY, SIZE
from titan.cli.policy_options import policy_options, words_of
from titan.cli.text import printable
from titan.client import retry
from titan.client.aio_session import AioSession
from titan.client.connection import DEFAULT_MANAGER, Credentials
from titan.errors import Refused, TitanError
from titan.rpc.channel import check_loopback
from titan.rpc.security import NO_TLS
from titan.rpc.v1 import types_pb2

_READY_SECONDS: Final = 30.0
# A worker that leaves gives its tasks 10 s; then it, and what is below it, is killed.
_LEAVE_SECONDS: Final = 20.0
_MANAGER_SECONDS: Final = 8.0
# Tasks that run on when `titan dev` is killed wait so long for the next one.
_DETACH_LIMIT: Final = "60s"
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class DevOptions:
    """What `titan dev` is given."""

    directory: Path
    listen: str
    workers: int
    cpus_milli: int | None
    memory_bytes: int | None
    resources: tuple[tuple[str, int], ...]
    # What of a manager's options was given.
    policy: tuple[str, ...]
    history: str | None
    # Where the pages are shown; None: nowhere.
    web: str | None
    is_web_wanted: bool
    fresh: bool


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan dev
  titan dev --workers 3 --cpus 2 --memory 1G
  titan dev --order fcfs --fresh
""",
)
@click.option(
    "--listen",
    type=ADDRESS,
    default=DEFAULT_MANAGER,
    show_default=True,
    metavar="HOST:PORT",
    help="Where the manager is called; port 0 takes a free one.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="How many workers.",
)
@click.option("--cpus", type=CPUS, metavar="N", help="Cpus of each [all of the machine].")
@click.option("--memory", type=SIZE, metavar="SIZE", help="Memory of each [all of the machine].")
@click.option(
    "--resource",
    type=COUNT,
    multiple=True,
    metavar="NAME=COUNT",
    help="A named resource of each, as gpu=2. May be repeated.",
)
@policy_options
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where everything is kept [$XDG_STATE_HOME/titan/dev].",
)
@click.option(
    "--history",
    type=HISTORY,
    metavar="URL|none",
    help="Where all jobs are written for `titan history` [a file in DIR/manager].",
)
@click.option(
    "--web",
    type=ADDRESS_OR_NONE,
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT|none",
    help="Where the cluster is shown in a browser, if the extra [web] is installed; where that is "
    "in use, and not asked for, at another port.",
)
@click.option("--fresh", is_flag=True, help="Move what is kept there aside and begin anew.")
@click.pass_context
def dev(
    ctx: click.Context,
    /,
    *,
    listen: str,
    workers: int,
    cpus: int | None,
    memory: int | None,
    resource: tuple[tuple[str, int], ...],
    data_dir: Path | None,
    history: str | None,
    web: str,
    fresh: bool,
    **policy: Any,
) -> int:
    """Start a whole cluster on this machine, to try Titan: a manager and workers.

    Ctrl-C stops all of it. Jobs are kept: the same command goes on where it ended,
    even after a kill -9.
    """
    for name, address in (("--listen", listen), ("--web", web)):
        try:
            if address != "none":
                check_loopback(address)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint=name) from error
    options = DevOptions(
        directory=(data_dir or paths.state_directory() / "dev").absolute(),
        listen=listen,
        workers=workers,
        cpus_milli=cpus,
        memory_bytes=memory,
        resources=resource,
        policy=tuple(words_of(ctx, policy)),
        history=history,
        web=None if web == "none" else web,
        is_web_wanted=ctx.get_parameter_source("web") is not ParameterSource.DEFAULT,
        fresh=fresh,
    )
    directory = DataDirectory(options.directory)
    directory.open(fresh=fresh)
    cluster = Dev(options, directory)
    try:
        become_subreaper()
        return asyncio.run(cluster.run())
    finally:
        # One that never started leaves alone what waits for one that does.
        end_rest(options.directory if cluster.was_started else None, REST_SECONDS)
        directory.close()


class Dev:
    """A cluster on this machine, from start to stop."""

    def __init__(self, options: DevOptions, directory: DataDirectory) -> None:
        self._options = options
        self._directory = directory
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = 0
        self.was_started = False
        self._address = ""
        self._manager = Child("manager", (), options.directory / "manager.log")
        self._workers: list[Child] = []
        self._web: DevWeb | None = None

    async def run(self) -> int:
        """Runs it until it is stopped; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        living = asyncio.create_task(self._live())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({living, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return living.result() if living.done() else self._exit_code
        finally:
            living.cancel()
            stopping.cancel()
            await asyncio.gather(living, stopping, return_exceptions=True)
            await self._end()

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            self._hurry.set()
            return
        self._exit_code = INTERRUPTED if number == signal.SIGINT else 0
        self._stop.set()

    async def _live(self) -> int:
        """Starts everything and tells what happens; returns only when the manager ended."""
        if not await self._wait_free():
            raise Refused(
                f"processes of an earlier `titan dev` still run on {self._options.directory}"
            )
        self._address = find_address(self._options.listen)
        if self._options.web is not None:
            self._web = find_web(
                self._options.web,
                self._options.directory / "web.log",
                is_wanted=self._options.is_web_wanted,
            )
        self._manager = self._make_manager()
        self.was_started = True
        await self._manager.start(self._directory.children)
        ended = asyncio.create_task(self._manager.wait())
        telling = asyncio.create_task(self._work())
        try:
            await asyncio.wait({ended, telling}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                telling.result()
            await ended
            _tell_end(self._manager)
            return FAILED
        finally:
            telling.cancel()
            ended.cancel()
            await asyncio.gather(telling, ended, return_exceptions=True)

    async def _wait_free(self) -> bool:
        waiting = asyncio.create_task(self._directory.wait_free())
        done, _ = await asyncio.wait({waiting}, timeout=1)
        if not done:
            say("waiting for what an earlier `titan dev` left to stop")
        return await waiting

    async def _work(self) -> None:
        given = Credentials(tls_dir=NO_TLS)
        async with AioSession(
            self._address, given=given, retry_for_seconds=retry.FOR_EVER
        ) as session:
            await self._reach(session)
            self._workers = [self._make_worker(number) for number in range(self._options.workers)]
            for worker in self._workers:
                await worker.start(self._directory.children)
            if self._web is not None:
                await self._web.start(self._address, self._directory.children)
            watching = [asyncio.create_task(self._watch_child(each)) for each in self._workers]
            try:
                lsn = await self._wait_healthy(session)
                if self._web is not None:
                    await self._web.wait_ready()
                    watching.append(asyncio.create_task(self._watch_child(self._web.child)))
                self._greet()
                watching.append(asyncio.create_task(tell_faults(session)))
                await tell_jobs(session, lsn)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)

    async def _reach(self, session: AioSession) -> None:
        """Waits for the manager's first answer."""
        end = time.monotonic() + _READY_SECONDS
        while True:
            try:
                await session.stats()
            except TitanError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def _wait_healthy(self, session: AioSession) -> int:
        """Waits for the workers, and returns where the log is then."""
        names = {worker.name for worker in self._workers}
        end = time.monotonic() + _READY_SECONDS
        while True:
            listed = await session.workers()
            # One that says itself what is wrong has come up, too; it is told to the user.
            up = {w.name for w in listed.workers if w.state == types_pb2.HEALTHY or w.fault}
            if names <= up:
                return listed.lsn
            if time.monotonic() > end:
                missing = ", ".join(sorted(names - up))
                say(f"not ready after {_READY_SECONDS:g} s: {missing}; see their logs")
                return listed.lsn
            await asyncio.sleep(_POLL_SECONDS)

    async def _watch_child(self, child: Child) -> None:
        await child.wait()
        if not self._stop.is_set():
            _tell_end(child)

    def _make_manager(self) -> Child:
        directory = self._options.directory
        arguments = [
            *("manager", "--data-dir", str(directory / "manager"), "--listen", self._address),
            # It is for this machine and this user alone.
            *("--tls-dir", NO_TLS),
            *self._options.policy,
        ]
        if self._options.history is not None:
            arguments += ["--history", self._options.history]
        return Child("manager", arguments, directory / "manager.log")

    def _make_worker(self, number: int) -> Child:
        options = self._options
        name = f"w{number + 1}"
        arguments = [
            *("worker", "--name", name, "--data-dir", str(options.directory / name)),
            *("--tls-dir", NO_TLS),
            *("--manager", self._address, "--detach-limit", _DETACH_LIMIT),
        ]
        if options.cpus_milli is not None:
            arguments += ["--cpus", units.format_cpus(options.cpus_milli)]
        if options.memory_bytes is not None:
            arguments += ["--memory", f"{options.memory_bytes}B"]
        for resource, count in options.resources:
            arguments += ["--resource", f"{resource}={count}"]
        return Child(name, arguments, options.directory / f"{name}.log")

    def _greet(self) -> None:
        directory = self._options.directory
        count = len(self._workers)
        where = "" if self._address == DEFAULT_MANAGER else f" --manager {self._address}"
        pages = f"  pages    {self._web.url}\n" if self._web and self._web.child.is_running else ""
        print(
            f"Titan is up: a manager and {count} worker{'s' if count > 1 else ''}.\n"
            f"  address  {self._address}\n"
            f"  data     {directory}\n"
            f"  output   {directory}/w*/output\n"
            f"  logs     {directory}/*.log\n"
            f"{pages}"
            "Try in another terminal:\n"
            f"  titan run{where} echo hello\n"
            f"  titan submit{where} --array 0-9 --shell 'sleep 1; echo task $TITAN_TASK_INDEX'\n"
            f"  titan queue{where} --all\n"
            "Ctrl-C stops it all.",
            flush=True,
        )

    async def _end(self) -> None:
        """Workers first, so that they can hand back what they hold; then the manager."""
        web = [self._web.child] if self._web is not None else []
        running = [child for child in (self._manager, *self._workers, *web) if child.is_running]
        if running and self._stop.is_set():
            print("Stopping; Ctrl-C again stops at once.", file=sys.stderr, flush=True)
        for child in web:
            # It has nothing to hand back, and is gone before the others.
            child.send(signal.SIGTERM)
        workers = [child for child in self._workers if child.is_running]
        await stop_all(workers, signal.SIGINT, _LEAVE_SECONDS, self._hurry)
        manager = [self._manager] if self._manager.is_running else []
        await stop_all([*manager, *web], signal.SIGTERM, _MANAGER_SECONDS, self._hurry)


def _tell_end(child: Child) -> None:
    head, *tail = child.obituary()
    say(head)
    for line in tail:
        print(printable(line), file=sys.stderr, flush=True)
