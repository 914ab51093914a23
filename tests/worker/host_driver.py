"""A real task host in a directory of its own, spoken to as an agent does."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.worker import builders
from titan.model import AttemptKey, ReportKind, Stop, StopMode
from titan.worker import directory, protocol
from titan.worker.messages import Launch, Report, StartBatch
from titan.worker.output.paths import output_path

T = TypeVar("T")

# A slow machine needs seconds to start a process; nothing waits for this to pass.
DEADLINE_SECONDS = 60.0


def wait_for(find: Callable[[], T | None], what: str) -> T:
    """What `find` finds, as soon as it finds something true. Fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    return state_of(pid) not in ("", "Z", "X")


def state_of(pid: int) -> str:
    """R, S, T, … as /proc has it; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rsplit(")", 1)[1].split()[0]


class HostDriver:
    """Starts the host and is its agent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None
        self.reports: list[Report] = []
        self.left = False
        self._connection: socket.socket | None = None
        self._decoder = protocol.Decoder()

    def start(
        self, environment: dict[str, str] | None = None, *, under: Sequence[str] = ()
    ) -> None:
        """Start the process, `under` a command that runs it."""
        with (self.path / "host.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "titan.worker.host", str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def connect(
        self, name: str = "w1", detach_limit_seconds: float = 600, **fields: Any
    ) -> protocol.Welcome:
        """Connect as a new agent, with these last fields of Hello; the welcome."""
        answer = self.greet(name, detach_limit_seconds, **fields)
        assert isinstance(answer, protocol.Welcome), answer
        return answer

    def greet(
        self,
        name: str = "w1",
        detach_limit_seconds: float = 600,
        major: int = 1,
        **fields: Any,
    ) -> protocol.Message:
        """Connect as a new agent; the host's first message."""
        self.disconnect()
        self._connection = wait_for(self._try_connect, "the host to listen")
        self._decoder = protocol.Decoder()
        self.reports.clear()
        limit_ms = int(detach_limit_seconds * 1000)
        manager = "127.0.0.1:50051"
        self.send(protocol.Hello(major, 0, name, manager, limit_ms, **fields))
        return self._receive()

    def _try_connect(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return directory.connect(self.path)
        return None

    def disconnect(self) -> None:
        """Go away as a killed agent does."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(self, message: protocol.Message) -> None:
        assert self._connection is not None
        self._connection.sendall(protocol.encode(message))

    def send_raw(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(data)

    def run(self, *command: str | bytes, job_id: int = 1, **batch: object) -> AttemptKey:
        """Start a job of one task."""
        self.send_batch(builders.batch(builders.launch(*command, job_id=job_id), **batch))  # type: ignore[arg-type]
        return builders.key(job_id)

    def run_launch(self, launch: Launch) -> AttemptKey:
        """Start a job of one task."""
        self.send_batch(builders.batch(launch))
        return builders.key(launch.job_id)

    def run_listening(self, launch: Launch) -> AttemptKey:
        """Start a job of one task with a time limit that writes a line once it is ready for that.

        Until then the host does not see that its time is over: a slow machine may take longer to
        start a shell than a limit that a test can wait for.
        """
        with self.listening(launch) as attempt:
            return attempt

    @contextlib.contextmanager
    def listening(self, launch: Launch) -> Iterator[AttemptKey]:
        """The same; the host stands still for as long as this lasts."""
        seconds = (launch.time_limit_ms - launch.end_signal_before_ms) / 1000
        for number in itertools.count(1):
            attempt = builders.key(launch.job_id, attempt=number)
            began = time.monotonic()
            self.send_batch(builders.batch(launch, attempt=number))
            self.wait_start(attempt)
            with self.standing_still():
                if time.monotonic() - began < seconds:
                    self.wait_output(attempt)
                    yield attempt
                    return
            # The machine stood still, and the time was over before the host could be stopped.
            self.wait_end(attempt)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The host does nothing meanwhile."""
        process = self.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: state_of(process.pid) == "T", "the host to stand still")
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def send_batch(self, batch: StartBatch) -> None:
        self.send(protocol.StartTasks(batch))

    def stop(
        self,
        *keys: AttemptKey,
        mode: StopMode = StopMode.CANCEL,
        grace_ms: int = 0,
        number: int = signal.SIGTERM,
        time_limit_ms: int = 0,
    ) -> None:
        stops = tuple(Stop(key, mode, grace_ms, number, time_limit_ms) for key in keys)
        self.send(protocol.StopTasks(stops))

    def _receive(self) -> protocol.Message:
        assert self._connection is not None
        self._connection.settimeout(DEADLINE_SECONDS)
        while data := self._connection.recv(1 << 18):
            for message in self._decoder.feed(data):
                return message
        raise AssertionError(f"the host closed the connection: {self.log()}")

    def pump(self) -> bool:
        """Take in what the host says next; False at the end of it."""
        assert self._connection is not None
        self._connection.settimeout(DEADLINE_SECONDS)
        # What came together with the welcome is there already.
        messages = list(self._decoder.feed(b""))
        if not messages:
            data = self._connection.recv(1 << 18)
            if not data:
                return False
            messages = list(self._decoder.feed(data))
        for message in messages:
            if isinstance(message, protocol.Reports):
                self.reports += message.reports
            elif isinstance(message, protocol.LeftAll):
                self.left = True
        return True

    def wait_until(self, condition: Callable[[], T | None]) -> T:
        """Take in what the host says until the condition is true of it."""
        while not (found := condition()):
            assert self.pump(), f"the host ended: {self.log()}"
        return found

    def find_end(self, key: AttemptKey) -> Report | None:
        """The report that the attempt is over."""
        return next(
            (r for r in self.reports if r.key == key and r.kind != ReportKind.STARTED), None
        )

    def wait_end(self, key: AttemptKey) -> Report:
        """The report that the attempt is over."""
        return self.wait_until(lambda: self.find_end(key))

    def wait_start(self, key: AttemptKey) -> Report:
        """The report that the attempt has started."""
        return self.wait_until(
            lambda: next(
                (r for r in self.reports if r.key == key and r.kind == ReportKind.STARTED), None
            )
        )

    def output(self, key: AttemptKey, suffix: bytes = b"out") -> bytes:
        """What the attempt has written so far."""
        path = Path(os.fsdecode(self.output_path(key, suffix)))
        return path.read_bytes() if path.exists() else b""

    def wait_output(self, key: AttemptKey) -> bytes:
        """The first whole line it has written, as soon as there is one."""
        wait_for(lambda: b"\n" in self.output(key), "output")
        return self.output(key)

    def output_path(self, key: AttemptKey, suffix: bytes = b"out") -> bytes:
        return output_path(os.fsencode(self.path / "output"), key, suffix)

    def children(self) -> list[int]:
        """The pids of the host's children, zombies included."""
        assert self.process is not None
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def log(self) -> str:
        return (self.path / "host.log").read_text()

    def kill(self) -> None:
        """Kill the host as the kernel's OOM killer would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.disconnect()

    def leave_at_once(self) -> None:
        """Kill all tasks and let the host end when its agent is gone."""
        with contextlib.suppress(OSError):
            self.send(protocol.Leave(0))
            while not self.left and self.pump():
                pass

    def close(self) -> None:
        """End everything."""
        process = self.process
        if process is not None and process.poll() is None:
            if self._connection is None:
                with contextlib.suppress(AssertionError):
                    self.connect()
            if self._connection is not None:
                self.leave_at_once()
        self.disconnect()
        if process is not None:
            try:
                process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
