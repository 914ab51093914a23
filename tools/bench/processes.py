"""Starting and ending the processes of a benchmark: a cluster, a server that does nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import grpc
import psutil

from titan import paths
from titan.rpc import access
from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS: Final = 90.0

T = TypeVar("T")


class BenchError(Exception):
    """A benchmark could not be run; the text says why."""


def wait_for(find: Callable[[], T | None], what: str) -> T:
    """What it finds, asked again and again until it does. Raises BenchError."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := find()) is None:
        if time.monotonic() > deadline:
            raise BenchError(f"{what} did not come within {DEADLINE_SECONDS:g} s")
        time.sleep(0.01)
    return found


def command(role: str, *arguments: str) -> list[str]:
    """What starts a process of that role."""
    return [sys.executable, "-m", "tools.bench.server", role, *arguments]


@contextlib.contextmanager
def running(
    directory: Path, role: str, *arguments: str, stop: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with that signal, and killed when it does not heed it."""
    with (directory / f"{role}.log").open("wb") as log:
        process = subprocess.Popen(
            command(role, *arguments), cwd=ROOT, env=environment(directory), stderr=log,
            stdin=subprocess.DEVNULL, stdout=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(role: str, *arguments: str) -> float:
    """The number that a process of that role prints."""
    done = subprocess.run(command(role, *arguments), cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return float(done.stdout)


def seconds_of(module: str, what: str, directory: Path) -> float:
    """The number, mostly seconds, that a process of that module of the benchmarks prints."""
    command = [sys.executable, "-m", f"tools.bench.{module}", what, str(directory)]
    return float(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


@contextlib.contextmanager
def empty_server(directory: Path) -> Iterator[str]:
    """A server that answers with nothing; its address."""
    with running(directory, "empty"):
        log = directory / "empty.log"
        yield wait_for(lambda: log.read_text().strip() or None, "the empty server")


class Cluster:
    """A manager, and perhaps one worker, with their directories in one."""

    def __init__(self, directory: Path, manager: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        content = wait_for(lambda: _read_access(directory, manager), "the manager")
        self.address = content["address"]
        self.metadata = access.metadata(content["token"])
        self.manager = psutil.Process(manager.pid)
        # It tells where it is a moment before it answers; one that shares its log has to lead.
        self._wait_stats(manager, lambda _: True, "an answer of the manager")
        self.agent: psutil.Process | None = None
        self.host: psutil.Process | None = None

    def wait_worker(self, agent: subprocess.Popen[bytes]) -> None:
        """Returns when the worker has registered. Raises BenchError."""
        self.agent = psutil.Process(agent.pid)
        self._wait_stats(agent, lambda stats: stats.workers["healthy"] > 0, "the worker")
        self.host = next(
            each for each in self.agent.children() if "titan.worker.host" in each.cmdline()
        )

    def cpu_seconds(self) -> dict[str, float]:
        """What each process has used so far, without its children."""
        parts = {"manager": self.manager, "agent": self.agent, "host": self.host}
        return {name: cpu_seconds(part) for name, part in parts.items() if part is not None}

    def _wait_stats(
        self,
        process: subprocess.Popen[bytes],
        are_right: Callable[[manager_pb2.GetStatsResponse], bool],
        what: str,
    ) -> None:
        """Until the manager answers so. Raises BenchError, also when that process ends."""
        with open_channel(self.address) as channel:
            stub = manager_pb2_grpc.ManagerServiceStub(channel)

            def ask() -> bool | None:
                if process.poll() is not None:
                    raise BenchError(f"{what} does not come: its process ended, see its log")
                try:
                    stats = stub.GetStats(manager_pb2.GetStatsRequest(), metadata=self.metadata)
                except grpc.RpcError:
                    return None
                return are_right(stats) or None

            wait_for(ask, what)


@contextlib.contextmanager
def cluster(
    directory: Path, *, cpus: int, forget_over: int = 250_000, options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A cluster with one worker of so many cpus; 0: without a worker. `options`: see server.py."""
    arguments = (str(directory / "m"), str(forget_over), *options)
    with running(directory, "manager", *arguments) as manager:
        here = Cluster(directory, manager)
        if not cpus:
            yield here
            return
        arguments = (str(directory / "w"), here.address, str(cpus))
        # Handed back by SIGINT, the task host ends too, and is waited for.
        with running(directory, "worker", *arguments, stop=signal.SIGINT) as agent:
            here.wait_worker(agent)
            try:
                yield here
            finally:
                host = here.host
        if host is not None and host.is_running():
            with contextlib.suppress(psutil.NoSuchProcess):
                host.kill()


def _read_access(directory: Path, manager: subprocess.Popen[bytes]) -> dict[str, str] | None:
    if manager.poll() is not None:
        log = (directory / "manager.log").read_text()
        raise BenchError(f"the manager ended with {manager.returncode}: {log}")
    return paths.read_json(directory / "m" / "access.json")


def environment(directory: Path) -> dict[str, str]:
    """Of a process whose tokens and the like are to lie in that directory."""
    return os.environ | {"XDG_STATE_HOME": str(directory / "state")}


def cpu_seconds(process: psutil.Process) -> float:
    """What the process has used so far, without its children. Raises OSError."""
    # clock_getcpuclockid(3): to the nanosecond, where /proc counts ticks of 10 ms.
    return time.clock_gettime(~process.pid << 3 | 2)
