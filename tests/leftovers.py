"""What a test run must not leave behind: processes, listening sockets, temporary files.

A process is the run's own when it descends from this one, or carries `RUN_MARKER` in its
environment, or works in one of the run's directories. The last two find those whose parent has
died, and the last one those that were started with an environment of their own.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

RUN_MARKER = "TITAN_TEST_RUN"

# What is on its way out when the last test ends may take this long to be gone.
SETTLE_SECONDS = 30.0


def wait_until_none(find: Callable[[], list[T]], seconds: float | None = None) -> list[T]:
    """Return what `find` still finds when it finds nothing or the time is over."""
    deadline = time.monotonic() + (SETTLE_SECONDS if seconds is None else seconds)
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def find_processes(run_id: str, directories: list[Path]) -> list[psutil.Process]:
    """Find the processes that belong to this run, zombies nobody waited for included."""
    own = psutil.Process()
    descendants = set(own.children(recursive=True))
    ancestors = {own, *own.parents()}
    return [
        process
        for process in psutil.process_iter()
        if process in descendants
        or (process not in ancestors and _belongs(process, run_id, directories))
    ]


def _belongs(process: psutil.Process, run_id: str, directories: list[Path]) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if process.environ().get(RUN_MARKER) == run_id:
            return True
        places = [process.cwd(), *(file.path for file in process.open_files())]
        return any(Path(place).is_relative_to(top) for place in places for top in directories)
    return False


def describe_process(process: psutil.Process) -> str:
    """Say which process it is, for the report of a failed run."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline()) or process.name()
        return f"process {process.pid} ({process.status()}): {command}"
    return f"process {process.pid}"


def find_listeners() -> list[str]:
    """Find the sockets this process still listens on, TCP and Unix."""
    return [f"listening socket {name}" for name in _listening_names()]


def _listening_names() -> Iterator[str]:
    for entry in os.listdir("/proc/self/fd"):
        try:
            # A copy, because closing the object would close the descriptor of its owner.
            copy = os.dup(int(entry))
        except OSError:
            continue  # the listing's own descriptor, closed by now
        try:
            candidate = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue  # not a socket
        with candidate:
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield f"{candidate.getsockname()} (descriptor {entry})"


def find_files(scratch: Path) -> list[str]:
    """Find what was left in the run's directory for temporary files."""
    return sorted(f"temporary file {path}" for path in scratch.iterdir())
