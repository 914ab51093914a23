"""What is read of a process's environment, which may hold anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worker.host_driver import wait_for
from titan.model import AttemptKey
from titan.worker import processes

# As execve(2) takes it, and not as a shell or Python would make it.
_PROGRAM = """
import ctypes, sys
words = [each.encode() for each in sys.argv[1:]]
libc = ctypes.CDLL(None)
command = (ctypes.c_char_p * 3)(b"sleep", b"600", None)
libc.execve(b"/bin/sleep", command, (ctypes.c_char_p * (len(words) + 1))(*words, None))
"""
NAMED = ("TITAN_JOB_ID=7", "TITAN_TASK_INDEX=1", "TITAN_ATTEMPT=2")


@contextmanager
def sleeping(*words: str) -> Iterator[int]:
    """The pid of a process with that environment."""
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, *words]) as process:
        try:
            path = Path(f"/proc/{process.pid}/cmdline")
            wait_for(lambda: path.read_bytes() == b"sleep\x00600\x00", "sleep")
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (NAMED, (7, 1, 2)),
        ((*NAMED, "TITAN_"), (7, 1, 2)),
        (("TITAN_X", *NAMED), (7, 1, 2)),
        (("TITAN_ATTEMPT", *NAMED[:2]), None),
        (("TITAN_ATTEMPT=", *NAMED[:2]), None),
        ((NAMED[0],), None),
        ((), None),
    ],
)
def test_whatever_it_holds_it_names_an_attempt_or_none(
    words: tuple[str, ...], found: tuple[int, int, int] | None
) -> None:
    with sleeping(*words) as pid:
        assert processes.read_attempt(pid) == found


def test_who_hides_so_is_looked_for_all_the_same() -> None:
    mark = processes.Mark(AttemptKey(1, 7, 1, 2), 0, 0, b"/nowhere")
    with sleeping("TITAN_X", *NAMED) as pid:
        assert pid in {each.pid for each in processes.find([mark], os.getpid())}
