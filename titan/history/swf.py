"""Jobs of the Standard Workload Format as the history has them.

`titan/simulator/swf.py` says what the format is. Here what happened counts, not what could be run
again: read are waits, cpu time, memory and status, too, and a job that was cancelled while it
waited is one. Columns from the tenth on may be absent.

Pure: lines in, jobs out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from titan.history.imported import NUMBER_MAX, UNKNOWN_USER, ImportedJob
from titan.traces.lines import (
    LEFT_OUT,
    RUN_US_MAX,
    SUBMIT_US_MAX,
    NotANumber,
    OddLines,
    Unusable,
    integer,
    optional_number,
    time_us,
)

_START: Final = re.compile(r";\s*UnixStartTime:\s*([0-9]{1,11})\b", re.IGNORECASE)
_COLUMNS_MIN: Final = 9
_STATES: Final = {"0": "FAILED", "1": "COMPLETED", "5": "CANCELLED"}
_PARTIAL: Final = ("2", "3", "4")
_PROCESSORS_MAX: Final = 10**9
_KIB: Final = 1024
_MEMORY_BYTES_MAX: Final = 1 << 60


class Oddity(StrEnum):
    """What may be odd about a line; the values are names for programs."""

    TOO_FEW_COLUMNS = "too_few_columns"
    NOT_A_NUMBER = "not_a_number"
    NO_JOB_NUMBER = "no_job_number"
    SAME_JOB_NUMBER = "same_job_number"
    PART_OF_A_JOB = "part_of_a_job"
    NO_RUN_TIME = "no_run_time"
    NO_SUBMIT_TIME = "no_submit_time"
    NO_PROCESSORS = "no_processors"
    OUT_OF_RANGE = "out_of_range"


TREATMENT: Final[dict[Oddity, tuple[str, str]]] = {
    Oddity.TOO_FEW_COLUMNS: (LEFT_OUT, "too few columns"),
    Oddity.NOT_A_NUMBER: (LEFT_OUT, "not a number"),
    Oddity.NO_JOB_NUMBER: (LEFT_OUT, "no number of a job"),
    Oddity.SAME_JOB_NUMBER: (LEFT_OUT, "the number of an earlier job"),
    Oddity.PART_OF_A_JOB: (LEFT_OUT, "part of a job that has a line of its own"),
    Oddity.NO_RUN_TIME: (LEFT_OUT, "no run time"),
    Oddity.NO_SUBMIT_TIME: (LEFT_OUT, "no submit time"),
    Oddity.NO_PROCESSORS: (LEFT_OUT, "no processors"),
    Oddity.OUT_OF_RANGE: (LEFT_OUT, "beyond all limits"),
}


def find_start(line: str) -> int | None:
    """When a workload begins, in Unix seconds, if the line is the comment that says so."""
    match = _START.match(line)
    # Archives write 0 where nobody knows.
    return int(match[1]) or None if match else None


def read_jobs(
    lines: Iterable[str], start_time: float, odd: OddLines[Oddity]
) -> Iterator[ImportedJob]:
    """All that have ended, in the order of their lines; what can't be used goes to `odd`.

    `start_time` is what the file's times count from, in Unix seconds.
    """
    seen: set[int] = set()
    for line, text in enumerate(lines, 1):
        columns = text.split()
        if not columns or columns[0].startswith(";"):
            continue
        try:
            job = _read_job(columns, start_time)
        except Unusable as unusable:
            odd.add(unusable.kind, line, unusable.why)
        except NotANumber as error:
            odd.add(Oddity.NOT_A_NUMBER, line, str(error))
        else:
            if job.number in seen:
                odd.add(Oddity.SAME_JOB_NUMBER, line, f"has {job.number}")
                continue
            seen.add(job.number)
            yield job


def _read_job(columns: Sequence[str], start_time: float) -> ImportedJob:
    if len(columns) < _COLUMNS_MIN:
        raise Unusable(Oddity.TOO_FEW_COLUMNS, f"has {len(columns)}, and {_COLUMNS_MIN} are needed")
    number = integer(columns[0], "job number")
    submit_us = time_us(columns[1], "submit time")
    wait_us = time_us(columns[2], "wait time")
    run_us = time_us(columns[3], "run time")
    allocated = integer(columns[4], "allocated processors")
    cpu_us = time_us(columns[5], "average cpu time")
    # Averages of it may have decimals; whole KiB are enough.
    memory_kib = time_us(columns[6], "used memory") // 1_000_000
    requested = integer(columns[7], "requested processors")
    limit_us = time_us(columns[8], "requested time")
    rest = [*columns[9:], *[""] * 9]
    asked_kib, user, executable, partition = (
        optional_number(rest[place]) for place in (0, 2, 4, 6)
    )
    status = rest[1]
    cpus = requested if requested > 0 else allocated
    used_on = allocated if allocated > 0 else cpus
    if number < 0:
        raise Unusable(Oddity.NO_JOB_NUMBER, f"has the number {columns[0]}")
    if status in _PARTIAL:
        raise Unusable(Oddity.PART_OF_A_JOB, f"has the status {status}")
    never_ran = status == "5" and run_us <= 0
    if run_us < 0 and not never_ran:
        raise Unusable(Oddity.NO_RUN_TIME, f"has the run time {columns[3]}")
    if submit_us < 0:
        raise Unusable(Oddity.NO_SUBMIT_TIME, f"has the submit time {columns[1]}")
    if cpus <= 0:
        raise Unusable(Oddity.NO_PROCESSORS, f"requested {requested} and was allocated {allocated}")
    if max(submit_us, wait_us) > SUBMIT_US_MAX or max(run_us, cpu_us) > RUN_US_MAX:
        raise Unusable(
            Oddity.OUT_OF_RANGE,
            f"comes at {columns[1]} s, waits {columns[2]} s and runs for {columns[3]} s",
        )
    if max(cpus, used_on) > _PROCESSORS_MAX or number > NUMBER_MAX:
        raise Unusable(Oddity.OUT_OF_RANGE, f"is number {number} and has {cpus} processors")
    submit = start_time + submit_us / 1e6
    start = submit + max(wait_us, 0) / 1e6
    return ImportedJob(
        number=number,
        name=f"app-{executable}" if executable > 0 else "swf",
        user=f"user-{user}" if user > 0 else UNKNOWN_USER,
        command=(),
        worker=f"partition-{partition}" if partition > 0 else "swf",
        cpus=float(cpus),
        memory_bytes=_memory(asked_kib, cpus),
        priority=0,
        time_limit_seconds=min(limit_us, RUN_US_MAX) / 1e6 if limit_us > 0 else None,
        state=_STATES.get(status, "UNKNOWN"),
        reason="CANCELLED" if status == "5" else None,
        exit_code=0 if status == "1" else None,
        signal=None,
        submit=submit,
        start=None if never_ran else start,
        wait_seconds=wait_us / 1e6 if wait_us >= 0 and not never_ran else None,
        # It waited until its cancel, if that is known.
        end=start + max(run_us, 0) / 1e6,
        cpu_user_seconds=max(cpu_us, 0) / 1e6 * used_on,
        cpu_system_seconds=0.0,
        max_rss_bytes=_memory(memory_kib, used_on),
        stdout_path=None,
        stderr_path=None,
    )


def _memory(kib: int, processors: int) -> int:
    """Bytes of so much for each processor; 0: it is not known."""
    return min(max(kib, 0) * _KIB * processors, _MEMORY_BYTES_MAX)
