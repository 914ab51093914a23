"""Commands run here, or as processes of their own, against a fake manager."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager, wait_for_answers
from titan.cli.main import main
from titan.manager import main as manager_main
from titan.manager.options import ManagerOptions
from titan.worker import main as worker_main
from titan.worker.main import WorkerOptions


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Titan = Callable[..., Result]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """It serves; TITAN_MANAGER and the state directory lead to it."""
    wait_for_answers(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with FakeManager(tmp_path / "manager") as manager:
        monkeypatch.setenv("TITAN_MANAGER", manager.address)
        yield manager


@pytest.fixture
def titan(capsys: pytest.CaptureFixture[str]) -> Titan:
    """Runs a command in this process; stdout is no terminal."""

    def run(*arguments: str) -> Result:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


class Process:
    """A command as a process. What is read waits for a while and fails then."""

    def __init__(self, *arguments: str | bytes, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "titan.cli", *arguments],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                # Nothing is read ahead, so that lines and the rest can be read by turns.
                "bufsize": 0,
                **settings,
            },
        )
        self._read_ahead = {"stdout": b"", "stderr": b""}

    def interrupt(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def read_line(self) -> str:
        """The next line of stdout."""
        return self._read_line("stdout")

    def read_error_line(self) -> str:
        """The next line of stderr."""
        return self._read_line("stderr")

    def _read_line(self, name: str) -> str:
        pipe = getattr(self.process, name)
        end = time.monotonic() + DEADLINE_SECONDS
        seen = self._read_ahead[name]
        while b"\n" not in seen:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no line on {name}, only {seen!r}; ended: {self.process.poll()}"
            part = os.read(pipe.fileno(), 65536)
            if not part:
                break
            seen += part
        line, newline, rest = seen.partition(b"\n")
        self._read_ahead[name] = rest
        return os.fsdecode(line + newline)

    def end(self) -> Result:
        """Waits for it; fails after a while."""
        out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        out = self._read_ahead["stdout"] + (out or b"")
        err = self._read_ahead["stderr"] + (err or b"")
        return Result(self.process.returncode, os.fsdecode(out), os.fsdecode(err))


@pytest.fixture
def spawn() -> Iterator[Callable[..., Process]]:
    """Starts commands as processes, and ends those that a test left."""
    started: list[Process] = []

    def start(*arguments: str | bytes, **settings: Any) -> Process:
        started.append(Process(*arguments, **settings))
        return started[-1]

    yield start
    for each in started:
        with each.process as process:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def managers(monkeypatch: pytest.MonkeyPatch) -> list[ManagerOptions]:
    """The options of managers that were to be run; each exits with 7."""
    given: list[ManagerOptions] = []

    def run(options: ManagerOptions) -> int:
        given.append(options)
        return 7

    monkeypatch.setattr(manager_main, "run_manager", run)
    return given


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[WorkerOptions]:
    """The options of workers that were to be run."""
    given: list[WorkerOptions] = []

    def run(options: WorkerOptions) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr(worker_main, "run_worker", run)
    return given
