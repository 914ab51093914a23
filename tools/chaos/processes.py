"""Processes of a run: each is started again under the same name, and found whoever its parent is.

All of them carry `MARK` with the run's directory in their environment, as do the tasks. Nothing is
ended but by its pid.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

MARK: Final = "CHAOS_RUN"
REPOSITORY: Final = Path(__file__).resolve().parents[2]
TASK_PROGRAM: Final = Path(__file__).with_name("task.sh")

WORKER_CPUS: Final = 4
# A snapshot and a new segment every few minutes; a segment more is allocated ahead.
LOG_OPTIONS: Final = ("--segment-size", "1M", "--snapshot-every", "1M")
START_SECONDS: Final = 60.0
# Python ends by a signal that comes before Titan listens to it, on a machine that has much to do.
DEAF_SECONDS: Final = 15.0
# What Titan promises of a SIGTERM is 5 s, on a machine that does nothing else.
STOP_SECONDS: Final = 30.0
# Below those that outgoing connections are given, and servers of tests that run beside.
PORTS: Final = range(10_000, 15_000)


class ChaosError(Exception):
    """The tool could not do what it is for; the text is a sentence."""


class Found(NamedTuple):
    """A process of this run."""

    pid: int
    command: str
    is_task: bool


class Server:
    """A process that is to run, and is started again under the same name."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path):
        self.name = name
        self.is_wanted = False
        self.start_time = 0.0
        self._command = command
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Does not wait for anything. Only one that does not run is started."""
        assert self.exit_code() is not None, f"{self.name} runs"
        self.is_wanted = True
        self.start_time = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
            )

    def has_listened(self) -> bool:
        """Whether a signal that is sent now has to be heard."""
        return time.monotonic() > self.start_time + DEAF_SECONDS

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else 0

    def send(self, number: int) -> None:
        """A signal; one that ends it says that it is meant to end."""
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self.is_wanted = False
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and waits for it."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


class Worker(Server):
    """An agent; its task host is a process beside it."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log: Path, data: Path
    ) -> None:
        super().__init__(name, command, environment, log)
        self._data = data

    def find_host(self) -> int | None:
        """The task host that holds the directory, if there is one."""
        with suppress(OSError, ValueError):
            pid = int((self._data / "host.lock").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"titan.worker.host" in command and os.fsencode(self._data) in command:
                return pid
        return None

    def kill_all(self, *, with_tasks: bool) -> None:
        """The agent and its host at one blow; with all tasks it is as if power were lost."""
        self.send(signal.SIGSTOP)
        host = self.find_host()
        # One that is being started is the agent's child and does not hold the directory yet.
        hosts = {*descendants(self.pid), *([host] if host else [])}
        for pid in hosts:
            send(pid, signal.SIGSTOP)
        tasks = {task for pid in hosts for task in descendants(pid)} - hosts if with_tasks else ()
        self.kill()
        for pid in (*hosts, *tasks):
            send(pid, signal.SIGKILL)


def environment_of(root: Path) -> dict[str, str]:
    """Of all processes of the run below that directory."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("TITAN_")},
        "XDG_STATE_HOME": str(root / "state"),
        "PYTHONPATH": str(REPOSITORY),
        # A reader of the log, which tests/history kills for itself.
        "TITAN_MANAGER_HISTORY": "none",
        MARK: str(root),
    }


def titan(command: str) -> list[str]:
    """A command of the CLI, from this tree."""
    return [sys.executable, "-m", "titan.cli", command]


def find_processes(root: Path) -> list[Found]:
    """All that carry the run's mark; what is dead and not yet reaped is none."""
    mark = f"{MARK}={root}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if mark in variables:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                is_task = any(each.startswith(b"TITAN_ATTEMPT=") for each in variables)
                found.append(Found(int(folder.name), command.strip(), is_task))
    return found


def end_marked(root: Path) -> None:
    """Kills whatever is left of a run, and waits until nothing is."""
    for _ in range(100):
        found = find_processes(root)
        for each in found:
            send(each.pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Its children, their children and so on."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            children = Path(f"/proc/{each}/task/{each}/children")
            found += map(int, children.read_text().split())
    return found[1:]


def is_alive(pid: int) -> bool:
    """Whether a process of that number runs; one that is dead and not yet reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def send(pid: int, number: int) -> None:
    """A signal to who may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_end(server: Server) -> str:
    """What is to be said of its end, or nothing."""
    deadline = time.monotonic() + STOP_SECONDS
    while (code := server.exit_code()) is None:
        if time.monotonic() > deadline:
            server.kill()
            return f"{server.name} did not end within {STOP_SECONDS:g} s of being told to"
        time.sleep(0.05)
    return f"{server.name} was told to end, and did so with exit code {code}" if code else ""


def free_ports(count: int, *, among: range = PORTS) -> list[int]:
    """Ports that nobody has now, no two of them the same."""
    probes: list[socket.socket] = []
    try:
        while len(probes) < count:
            probe = socket.socket()
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().choice(among)))
            except OSError:
                probe.close()
            else:
                probes.append(probe)
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
