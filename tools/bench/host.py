"""(j) Tasks a second of a task host alone, without and with a memory limit on each of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from titan.model import ReportKind, State
from titan.worker import directory as worker_directory
from titan.worker import protocol
from titan.worker.messages import Environment, Launch, Report, Start, StartBatch
from tools.bench.processes import DEADLINE_SECONDS, ROOT, BenchError, output_of, wait_for
from tools.bench.result import Result, alternate
from tools.bench.tasks import CPUS, TASKS, TASKS_QUICK, WARM_UP_TASKS

MEMORY_BYTES: Final = 64 << 20
# As many as there are cpus, when each is idle from an end until the host has seen it and started
# the next, and twice as many, when what counts is the work that a start takes.
AT_ONCE: Final = (CPUS, 2 * CPUS)
# So many are sent at once, as an agent does, and the next when half of them have ended.
BATCH: Final = 500
_READ_BYTES: Final = 1 << 18


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Each against the same loop."""
    tasks = TASKS_QUICK if quick else TASKS
    limited = f"the same, each with --memory {MEMORY_BYTES >> 20}M"
    rows = [
        (f"{what}, {at_once} at once", memory_bytes, at_once, must)
        for at_once in AT_ONCE
        for what, memory_bytes, must in (
            ("tasks of a host alone", 0, "≥ 0.80"),
            (limited, MEMORY_BYTES, "≥ 0.70"),
        )
    ]
    results = []
    for what, memory_bytes, at_once, must in rows:
        here = directory / f"{memory_bytes}-{at_once}"
        here.mkdir()
        limits, *numbers = _measure(
            here, rounds=rounds, tasks=tasks, memory_bytes=memory_bytes, at_once=at_once
        )
        values, floors, ratios = numbers
        floor = "posix_spawn of /bin/true, two files made for each, and wait, as many at once"
        if memory_bytes:
            floor += f" (limits {limits})"
        results.append(
            Result(
                part="j", what=what, unit="tasks/s", values=values, floor=floor, floors=floors,
                ratios=ratios, must=must,
            )
        )  # fmt: skip
    return results


def _measure(
    directory: Path, *, rounds: int, tasks: int, memory_bytes: int, at_once: int
) -> tuple[str, tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """How the host keeps limits; values, floors, ratios."""
    numbers = itertools.count()

    def bare() -> float:
        files = directory / f"bare-{next(numbers)}"
        files.mkdir()
        return tasks / output_of("spawn", str(tasks), str(at_once), str(files))

    with host(directory) as driver:
        driver.run(min(WARM_UP_TASKS, tasks), memory_bytes, at_once)
        rates = alternate(rounds, lambda: tasks / driver.run(tasks, memory_bytes, at_once), bare)
        return driver.limits, *rates


class Driver:
    """The agent of a task host: sends tasks and reads how they ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder = protocol.Decoder()
        self._jobs = itertools.count(1)
        self._ended = 0
        hello = protocol.Hello(protocol.VERSION_MAJOR, protocol.VERSION_MINOR, "bench", "", 600_000)
        self._send(hello)
        welcome = self._read()[0]
        if not isinstance(welcome, protocol.Welcome):
            raise BenchError(f"the task host does not say welcome: {welcome}")
        self.limits = welcome.limits

    def run(self, tasks: int, memory_bytes: int, at_once: int) -> float:
        """The seconds that an array of so many tasks takes. Raises BenchError."""
        job_id = next(self._jobs)
        launch = Launch(1, job_id, "true", (b"/bin/true",), b"/", 0, 1000, memory_bytes, 1, tasks)
        waiting = iter(range(tasks))
        sent = self._ended = 0
        start = time.perf_counter()
        while self._ended < tasks:
            if sent - self._ended <= BATCH // 2 and sent < tasks:
                starts = [Start(0, index, 1) for index in itertools.islice(waiting, BATCH)]
                sent += len(starts)
                batch = StartBatch(
                    (Environment((), ()),), (launch,), tuple(starts), ((1, at_once),)
                )
                self._send(protocol.StartTasks(batch))
            for message in self._read():
                if isinstance(message, protocol.Reports):
                    self._note(message.reports)
        return time.perf_counter() - start

    def leave(self) -> None:
        """Let the host end."""
        self._send(protocol.Leave(0))
        with contextlib.suppress(BenchError):
            while not any(isinstance(each, protocol.LeftAll) for each in self._read()):
                pass

    def _note(self, reports: tuple[Report, ...]) -> None:
        for report in reports:
            if report.kind is ReportKind.ENDED:
                self._ended += 1
                if report.state is not State.COMPLETED:
                    raise BenchError(f"a task ended as {report.state}: {report.detail}")
        self._send(protocol.Acknowledge(reports[-1].seq))

    def _send(self, message: protocol.Message) -> None:
        self._connection.sendall(protocol.encode(message))

    def _read(self) -> list[protocol.Message]:
        while True:
            data = self._connection.recv(_READ_BYTES)
            if not data:
                raise BenchError("the task host has closed the connection")
            messages = list(self._decoder.feed(data))
            if messages:
                return messages


@contextlib.contextmanager
def host(directory: Path) -> Iterator[Driver]:
    """A task host with its files in the directory, and its agent."""
    log = directory / "host.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "titan.worker.host", str(directory)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, env=os.environ,
        )  # fmt: skip
    try:
        connection = wait_for(lambda: _find_host(directory), "the task host")
        with connection:
            connection.settimeout(DEADLINE_SECONDS)
            driver = Driver(connection)
            yield driver
            driver.leave()
        process.wait(DEADLINE_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _find_host(directory: Path) -> socket.socket | None:
    with contextlib.suppress(OSError):
        return worker_directory.connect(directory)
    return None
