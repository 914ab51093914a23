"""A real cluster for tests: manager, workers, task hosts and commands as processes of their own.

Everything lies below one directory, which is also the state directory of its processes.
Nothing here sleeps to let something happen: `wait_until` waits for it, with a deadline.
Ends only what it has started: its own children, and what carries the cluster's address
or state directory in its environment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from tests import here, strays
from titan import Client
from tools.chaos.processes import descendants as descendants  # noqa: PLC0414 - for tests too
from tools.chaos.processes import is_alive as is_alive  # noqa: PLC0414 - for tests too

T = TypeVar("T")

PYTHON_TITAN = (sys.executable, "-m", "titan.cli")
REPOSITORY = Path(__file__).parent.parent

# Long enough for a machine that does three other things, and stands still for seconds now and then;
# nothing waits for it to pass.
DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.01
_POLL_SECONDS_MAX = 0.2
# Below those that outgoing connections are given by chance.
_PORTS = range(15_000, 30_000)
# Who was given one listens there later, and not while a process of his is started again.
_given_ports: deque[int] = deque(maxlen=1_000)


def wait_until(condition: Callable[[], T], what: str = "", seconds: float = DEADLINE_SECONDS) -> T:
    """What the condition returns once that is true. Fails after so long."""
    looked = time.monotonic()
    deadline = looked + seconds
    while not (found := condition()):
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}: {found!r}")
        # To look may cost much: it takes a third of a core at most from what is waited for.
        time.sleep(min(max(_POLL_SECONDS, 2 * (now - looked)), _POLL_SECONDS_MAX))
        looked = time.monotonic()
    return found


def own_ports() -> range:
    """Those that are for this process, of all that run tests at once under pytest-xdist."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # One that takes the place of another that crashed has a higher number.
    return _PORTS[int(name.removeprefix("gw")) % count :: count]


def free_port() -> int:
    """A port that nobody has now, that no other test is given and no outgoing connection."""
    while True:
        port = random.SystemRandom().choice(own_ports())
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.append(port)
        return port


class Server:
    """A process that runs until it is ended, with its log in a file."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log_path = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=REPOSITORY,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text: str, seconds: float = DEADLINE_SECONDS) -> str:
        """The log once that stands in it. Fails when the process ends without it."""

        def is_there() -> str:
            has_ended = self.process.poll() is not None
            log = self.log
            if text in log:
                return log
            assert not has_ended, f"ended with {self.process.returncode}:\n{log}"
            return ""

        return wait_until(is_there, f"{text!r} in the log:\n{self.log}", seconds)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def wait_soon(self, seconds: float) -> int:
        """The exit code, after so long at most, in which it could run.

        Looks taken count, not the clock: while the machine stands still there are none.
        """
        for _ in range(round(seconds / 0.05)):
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        code = self.process.poll()
        assert code is not None, f"it runs on after {seconds} s:\n{self.log}"
        return code

    def end(self, number: int = signal.SIGTERM, seconds: float = DEADLINE_SECONDS) -> int:
        """Sends the signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


class Worker(Server):
    """A worker's agent; its task host is a process beside it."""

    def __init__(
        self, name: str, arguments: list[str], environment: Mapping[str, str], log: Path, data: Path
    ) -> None:
        super().__init__(arguments, environment, log)
        self.name = name
        self.directory = data

    @property
    def host_pid(self) -> int:
        """The task host that holds the directory."""
        pid = self.find_host()
        assert pid is not None, self.log
        return pid

    def find_host(self) -> int | None:
        """The same, None while there is none: the number in the file may be another's by now."""
        pid = int((self.directory / "host.lock").read_text() or 0)
        with suppress(FileNotFoundError, ProcessLookupError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"titan.worker.host" in command and os.fsencode(self.directory) in command:
                return pid
        return None

    def kill_all(self) -> None:
        """The agent, its host and all its tasks at one blow, as when the machine loses power."""
        self.process.send_signal(signal.SIGSTOP)
        host = self.find_host()
        # One that is being started is the agent's child and does not hold the directory yet.
        hosts = {*descendants(self.pid), *([host] if host else [])}
        for pid in hosts:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        family = [*hosts, *(task for pid in hosts for task in descendants(pid))]
        self.kill()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, family)), "the machine is down")


class Cluster:
    """A manager, workers and whoever calls them. To be used as a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.state.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.manager_directory = root / "manager"
        self.manager: Server | None = None
        self.workers: dict[str, Worker] = {}
        self._servers: list[Server] = []
        self._commands: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TITAN_")},
            **{key: value for key, value in os.environ.items() if key == "TITAN_TEST_RUN"},
            "XDG_STATE_HOME": str(self.state),
            # Whoever runs the tests may have certificates of his own.
            "XDG_CONFIG_HOME": str(self.state),
            "TITAN_MANAGER": self.address,
            # As in conftest.py.
            "TITAN_MANAGER_HISTORY": "none",
            "TITAN_DEV_WEB": "none",
            "PYTHONPATH": str(REPOSITORY),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def spawn(self, *arguments: str, name: str = "server", under: Sequence[str] = ()) -> Server:
        """`titan …` as a server; `under`: what starts it, if that is another program."""
        return self.spawn_other(*under, *PYTHON_TITAN, *arguments, name=name)

    def spawn_other(self, *command: str, name: str = "other") -> Server:
        """Any program that runs for this cluster."""
        server = Server([*command], self.environment, self._log(name))
        self._servers.append(server)
        return server

    def spawn_manager(self, *options: str, under: Sequence[str] = ()) -> Server:
        """A manager that may or may not come up."""
        return self.spawn(
            "manager", "--data-dir", str(self.manager_directory), "--listen", self.address,
            *options, name="manager", under=under,
        )  # fmt: skip

    def start_manager(self, *options: str) -> Server:
        """A manager that serves."""
        self.manager = self.spawn_manager(*options)
        self.manager.wait_log("the manager is ready")
        return self.manager

    def kill_manager(self) -> None:
        """kill -9."""
        assert self.manager is not None
        self.manager.kill()

    def start_worker(self, name: str = "w1", *options: str) -> Worker:
        """A worker that the manager knows; again under the same name it is the same one."""
        data = self.root / name
        worker = Worker(
            name,
            [
                *PYTHON_TITAN, "worker", "--data-dir", str(data), "--name", name,
                "--memory", "8G", *options,
            ],
            self.environment,
            self._log(name),
            data,
        )  # fmt: skip
        self._servers.append(worker)
        self.workers[name] = worker
        worker.wait_log("registered with the manager")
        return worker

    def client(self, retry_for_seconds: float = 30.0) -> Client:
        """A Python client."""
        return Client(
            self.address,
            access_file=self.manager_directory / "access.json",
            retry_for_seconds=retry_for_seconds,
        )

    def popen(self, *arguments: str | bytes, **settings: Any) -> subprocess.Popen[bytes]:
        """A command under way."""
        settings = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": self.environment,
            "cwd": self.root,
            **settings,
        }
        command = subprocess.Popen([*PYTHON_TITAN, *arguments], **settings)
        self._commands.append(command)
        return command

    def wait_connected(self, process: subprocess.Popen[bytes]) -> None:
        """Until the command has reached the manager."""
        _, port = self.address.split(":")

        def is_connected() -> bool:
            connections = psutil.Process(process.pid).net_connections("tcp")
            return any(getattr(each.raddr, "port", 0) == int(port) for each in connections)

        wait_until(is_connected, "the command reaches the manager")

    def titan(
        self, *arguments: str | bytes, seconds: float = DEADLINE_SECONDS, **settings: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """A command, to its end; within this process if that can be."""
        if settings or not here.can_run_here(arguments):
            return self.process(*arguments, seconds=seconds, **settings)
        before = time.monotonic()
        result = here.run_here(arguments, self.environment, self.root)
        # One that never ends is ended by the test's timeout.
        took = time.monotonic() - before
        assert took < seconds, f"{arguments} took {took:.1f} s:\n{result}"
        return result

    def process(
        self, *arguments: str | bytes, seconds: float = DEADLINE_SECONDS, **settings: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """The same as a process of its own."""
        with self.popen(*arguments, **settings) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{arguments} did not end:\n{out!r}\n{err!r}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, *arguments: str | bytes, **settings: Any) -> bytes:
        """What a command prints that must succeed."""
        result = self.titan(*arguments, **settings)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        output: bytes = result.stdout
        return output

    def json(self, *arguments: str | bytes) -> Any:
        """What a command prints with --json."""
        return json.loads(self.ok("--json", *arguments))

    def submit(self, *arguments: str | bytes) -> int:
        """The number of a new job."""
        return int(self.ok("submit", "-q", *arguments))

    def dump(self) -> list[dict[str, Any]]:
        """The log, as `titan wal dump` tells it."""
        output = self.ok("wal", "dump", str(self.manager_directory))
        return [json.loads(line) for line in output.splitlines()]

    def find_processes(self) -> list[psutil.Process]:
        """Everything that runs for this cluster: servers, hosts, tasks; zombies are not told."""
        found = []
        for process in psutil.process_iter():
            try:
                variables = process.environ()
            except psutil.Error:
                continue
            is_ours = variables.get("XDG_STATE_HOME") == str(self.state)
            if is_ours or variables.get("TITAN_MANAGER") == self.address:
                found.append(process)
        return found

    def close(self) -> None:
        """Ends everything at once. What a task has left to others goes with it."""
        for server in self._servers:
            if server.process.poll() is None:
                server.kill()
        for command in self._commands:
            if command.poll() is None:
                command.kill()
            with command:
                pass

        def end_all() -> bool:
            found = self.find_processes()
            for process in found:
                try:
                    # Its children may have an environment of their own.
                    for each in [process, *process.children(recursive=True)]:
                        each.kill()
                except psutil.NoSuchProcess:
                    continue
            return not found

        wait_until(end_all, "the cluster's processes end")
        # The next host of each worker would have done so.
        strays.remove_groups(self.root)

    def _log(self, name: str) -> Path:
        number = sum(1 for _ in self.root.glob(f"{name}.*.log"))
        return self.root / f"{name}.{number}.log"
