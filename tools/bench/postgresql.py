"""A PostgreSQL of a benchmark's own, on loopback, with the settings that it has by itself.

So a commit is on the disk (fsync, synchronous_commit), and nothing is tuned.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from tools.bench.processes import DEADLINE_SECONDS, BenchError, cpu_seconds, wait_for
from tools.chaos.processes import ChaosError
from tools.chaos.several.postgresql import find_programs, unprivileged

_USER: Final = "bench"


class PostgreSQL:
    """One server, with an empty database."""

    def __init__(self, url: str, first: int) -> None:
        self.url = url
        self._first = psutil.Process(first)

    def cpu_seconds(self) -> float:
        """What its processes have used so far, those that have ended too."""
        ended = self._first.cpu_times()
        spent = cpu_seconds(self._first) + ended.children_user + ended.children_system
        for each in self._first.children():
            with contextlib.suppress(OSError):
                spent += cpu_seconds(each)
        return spent


@contextlib.contextmanager
def postgresql(directory: Path) -> Iterator[PostgreSQL]:
    """A server whose files are on the disk of that directory. Raises BenchError."""
    try:
        programs, user = find_programs(), unprivileged()
    except ChaosError as error:
        raise BenchError(str(error)) from error
    # Not in the benchmarks' own directory, which another user can't enter.
    here = Path(tempfile.mkdtemp(prefix="titan-bench-pg-", dir=directory))
    try:
        if "user" in user:
            os.chown(here, user["user"], user["group"])
        _initialise(programs, here, user)
        with (here / "log").open("wb") as log:
            first = subprocess.Popen(
                [
                    *(programs / "postgres", "-D", here / "data", "-k", here),
                    *("-c", "listen_addresses="),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user,
            )  # fmt: skip
        try:
            url = f"postgresql://{_USER}@/postgres?host={here}"
            wait_for(lambda: _is_up(url, first, here / "log"), "PostgreSQL")
            yield PostgreSQL(url, first.pid)
        finally:
            first.send_signal(signal.SIGINT)
            try:
                first.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                first.send_signal(signal.SIGQUIT)
                first.wait()
    finally:
        shutil.rmtree(here)


def _initialise(programs: Path, here: Path, user: Mapping[str, Any]) -> None:
    try:
        subprocess.run(
            [
                *(programs / "initdb", "-D", here / "data", f"--username={_USER}"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C"),
            ],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **user,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise BenchError(f"initdb in {here}: {error.stderr.strip()}") from error


def _is_up(url: str, first: subprocess.Popen[bytes], log: Path) -> bool | None:
    if first.poll() is not None:
        raise BenchError(f"PostgreSQL ended with {first.returncode}: {log.read_text()[-2000:]}")
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return None
    return True
