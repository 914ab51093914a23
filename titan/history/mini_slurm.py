"""Jobs of Mini-SLURM, from the table `jobs` of its SQLite file.

The file is only read, and may be in use. Columns that later versions of it have may be absent.
"""

from __future__ import annotations

import json
import math
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from titan.history.database import HistoryRefused
from titan.history.imported import NUMBER_MAX, UNKNOWN_USER, ImportedJob
from titan.traces.lines import LEFT_OUT, SECOND_US, SUBMIT_US_MAX, OddLines, Unusable

NEEDED: Final = ("id", "command", "cpus", "status", "submit_time", "start_time", "end_time")
OPTIONAL: Final = (
    "mem_mb", "priority", "return_code", "user", "stdout_path", "stderr_path", "cpu_user_time",
    "cpu_system_time", "nodes",
)  # fmt: skip

_ENDED: Final = ("COMPLETED", "FAILED", "CANCELLED")
_UNDER_WAY: Final = ("PENDING", "RUNNING")
_TIME_MAX: Final = SUBMIT_US_MAX / SECOND_US
_CPUS_MAX: Final = 10**9
_MEMORY_MB_MAX: Final = 1 << 40
_MIB: Final = 1 << 20
_BUSY_SECONDS: Final = 10


class Oddity(StrEnum):
    """What may be odd about a row; the values are names for programs."""

    NOT_ENDED = "not_ended"
    UNKNOWN_STATUS = "unknown_status"
    NO_TIME = "no_time"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"


TREATMENT: Final[dict[Oddity, tuple[str, str]]] = {
    Oddity.NOT_ENDED: (LEFT_OUT, "not ended"),
    Oddity.UNKNOWN_STATUS: (LEFT_OUT, "a status that is not known"),
    Oddity.NO_TIME: (LEFT_OUT, "no time of its start or end"),
    Oddity.NOT_A_NUMBER: (LEFT_OUT, "not a number"),
    Oddity.OUT_OF_RANGE: (LEFT_OUT, "beyond all limits"),
}


class MiniSlurm:
    """An open file of it, as it was at one moment."""

    def __init__(self, connection: sqlite3.Connection, columns: tuple[str, ...]) -> None:
        self._connection = connection
        self._columns = columns

    def count(self) -> int:
        """How many jobs there are. Raises HistoryRefused."""
        with _told():
            (found,) = self._connection.execute("SELECT count(*) FROM jobs").fetchone()
        return int(found)

    def read_jobs(self, odd: OddLines[Oddity]) -> Iterator[ImportedJob]:
        """All that have ended, by their ids; what can't be used goes to `odd`.

        Raises HistoryRefused.
        """
        names = ", ".join(f'"{name}"' for name in self._columns)
        with _told():
            for values in self._connection.execute(f"SELECT {names} FROM jobs ORDER BY id"):
                row = dict(zip(self._columns, values, strict=True))
                try:
                    job = _read_job(row)
                except Unusable as unusable:
                    odd.add(unusable.kind, row["id"], unusable.why)
                else:
                    yield job


@contextmanager
def open_mini_slurm(path: Path) -> Iterator[MiniSlurm]:
    """Raises HistoryRefused where it is no such file."""
    if not path.is_file():
        raise HistoryRefused(f"there is no file {path}")
    with _told(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
        )
    try:
        connection.text_factory = lambda value: value.decode("utf-8", "replace")
        with _told(path):
            # Counted and read is the same, whoever writes meanwhile.
            connection.execute("BEGIN")
            there = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
        if not there:
            raise HistoryRefused(f"{path} is not Mini-SLURM's: it has no table jobs")
        missing = [name for name in NEEDED if name not in there]
        if missing:
            raise HistoryRefused(
                f"{path} is not Mini-SLURM's: its table jobs has no column {', '.join(missing)}"
            )
        yield MiniSlurm(connection, (*NEEDED, *(name for name in OPTIONAL if name in there)))
    finally:
        connection.close()


@contextmanager
def _told(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if path is not None and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
            raise HistoryRefused(f"{path} is no database of SQLite") from error
        raise HistoryRefused(f"Mini-SLURM's file cannot be read: {error}") from error


def _read_job(row: Mapping[str, Any]) -> ImportedJob:
    number, status = row["id"], row["status"]
    if not isinstance(number, int):
        raise Unusable(Oddity.NOT_A_NUMBER, "has no number as its id")
    if status in _UNDER_WAY:
        raise Unusable(Oddity.NOT_ENDED, f"is {status}")
    if status not in _ENDED:
        raise Unusable(Oddity.UNKNOWN_STATUS, f"has {str(status)[:20]!r}")
    submit = _time(row, "submit_time")
    start, end = _time(row, "start_time"), _time(row, "end_time")
    if status != "CANCELLED" and (start is None or end is None):
        raise Unusable(Oddity.NO_TIME, f"started at {start} and ended at {end}")
    if submit is None:
        raise Unusable(Oddity.NO_TIME, "has no submit time")
    if end is None:
        # It does not write when it cancels, and only what waits.
        start, end = None, submit
    cpus = _number(row, "cpus")
    if not 0 < cpus <= _CPUS_MAX or not 0 <= number <= NUMBER_MAX:
        raise Unusable(Oddity.OUT_OF_RANGE, f"has {cpus:g} cpus")
    code = _code(row)
    command = str(row["command"] if row["command"] is not None else "")
    return ImportedJob(
        number=number,
        name=_name(command),
        user=_text(row, "user") or UNKNOWN_USER,
        # As it has it run.
        command=("/bin/sh", "-c", command),
        worker=_nodes(row),
        cpus=cpus,
        memory_bytes=int(min(max(_number(row, "mem_mb"), 0), _MEMORY_MB_MAX) * _MIB),
        priority=int(min(max(_number(row, "priority"), -(2**53)), 2**53)),
        time_limit_seconds=None,
        state=status,
        reason=_reason(status, code),
        exit_code=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        submit=submit,
        start=start,
        wait_seconds=max(start - submit, 0.0) if start is not None else None,
        end=end,
        cpu_user_seconds=_seconds(row, "cpu_user_time"),
        cpu_system_seconds=_seconds(row, "cpu_system_time"),
        # It does not measure it.
        max_rss_bytes=0,
        stdout_path=_text(row, "stdout_path"),
        stderr_path=_text(row, "stderr_path"),
    )


def _number(row: Mapping[str, Any], name: str) -> float:
    """0 where there is none."""
    value = row.get(name)
    if value is None:
        return 0.0
    # SQLite keeps in a column whatever was put there.
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Unusable(Oddity.NOT_A_NUMBER, f"has {str(value)[:20]!r} as its {name}")
    return float(value)


def _time(row: Mapping[str, Any], name: str) -> float | None:
    if row[name] is None:
        return None
    value = _number(row, name)
    if not 0 <= value <= _TIME_MAX:
        raise Unusable(Oddity.OUT_OF_RANGE, f"has {value:g} as its {name}")
    return value


def _seconds(row: Mapping[str, Any], name: str) -> float:
    return min(max(_number(row, name), 0.0), _TIME_MAX)


def _code(row: Mapping[str, Any]) -> int | None:
    """What the shell exited with; below 0: the signal that ended it."""
    if row.get("return_code") is None:
        return None
    value = _number(row, "return_code")
    if not -(2**31) < value < 2**31:
        raise Unusable(Oddity.OUT_OF_RANGE, f"has {value:g} as its return_code")
    return int(value)


def _reason(status: str, code: int | None) -> str | None:
    if status == "CANCELLED":
        return "CANCELLED"
    if code is None:
        return None
    return "EXIT" if code >= 0 else "SIGNAL"


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return None if value is None else str(value)


def _name(command: str) -> str:
    """The program's, as Titan names jobs that have no name."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return Path(words[0]).name if words else "mini-slurm"


def _nodes(row: Mapping[str, Any]) -> str:
    """Those that it chose, a list in JSON; else it is one machine."""
    try:
        nodes = json.loads(row.get("nodes") or "")
    except (ValueError, TypeError):
        nodes = None
    if isinstance(nodes, list) and nodes:
        return ",".join(map(str, nodes))
    return "mini-slurm"
