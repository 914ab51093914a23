"""Commands run here, or as processes of their own, against a fake manager."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from titan.cli.main import main


class Result(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Titan = Callable[..., Result]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """It serves; TITAN_MANAGER and the state directory lead to it."""
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
    """A command as a process."""

    def __init__(self, *arguments: str | bytes, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "titan.cli", *arguments],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **settings,
            },
        )

    def interrupt(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def read_line(self) -> str:
        """The next line of stdout."""
        assert self.process.stdout is not None
        return os.fsdecode(self.process.stdout.readline())

    def read_error_line(self) -> str:
        """The next line of stderr."""
        assert self.process.stderr is not None
        return os.fsdecode(self.process.stderr.readline())

    def end(self) -> Result:
        """Waits for it; fails after a while."""
        out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        return Result(self.process.returncode, os.fsdecode(out or b""), os.fsdecode(err or b""))


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
