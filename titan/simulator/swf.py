"""Jobs from the Standard Workload Format, and what is odd about its lines.

The format is described by Chapin et al., "Benchmarks and Standards for the Evaluation of
Parallel Job Schedulers", 1999, and on the pages of the Parallel Workloads Archive: a line for
each job, 18 columns of numbers with -1 for what is not known, and comments that begin with `;`.
Read are the columns

    1  number of the job           8  requested processors
    2  submit time                 9  requested time: the user's estimate of the run time
    4  run time                   11  status; 2, 3 and 4: a part of a job that has a line of its own
    5  allocated processors       12  user

The columns 11 and 12 may be absent. A job gets the processors that it requested, else those
that it was allocated, and as its time limit the requested time, else its run time.

Pure: lines in, jobs out. What can't be used is never an error but a line among the odd ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from titan.traces.lines import (
    LEFT_OUT,
    RUN_US_MAX,
    SUBMIT_US_MAX,
    NotANumber,
    OddLines,
    Unusable,
    format_seconds,
    integer,
    optional_number,
    time_us,
)
from titan.units import format_cpus

_COLUMNS_MIN: Final = 9
_PARTIAL: Final = ("2", "3", "4")
_CANCELLED: Final = "5"


class Oddity(StrEnum):
    """What may be odd about a line; the values are names for programs."""

    TOO_FEW_COLUMNS = "too_few_columns"
    NOT_A_NUMBER = "not_a_number"
    PART_OF_A_JOB = "part_of_a_job"
    CANCELLED = "cancelled"
    NO_RUN_TIME = "no_run_time"
    NO_SUBMIT_TIME = "no_submit_time"
    NO_PROCESSORS = "no_processors"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    TOO_LARGE = "too_large"
    LONGER_THAN_REQUESTED = "longer_than_requested"
    SUBMIT_GOES_BACK = "submit_goes_back"


_TREATMENT: Final[dict[Oddity, tuple[str, str]]] = {
    Oddity.TOO_FEW_COLUMNS: (LEFT_OUT, "too few columns"),
    Oddity.NOT_A_NUMBER: (LEFT_OUT, "not a number"),
    Oddity.PART_OF_A_JOB: (LEFT_OUT, "part of a job that has a line of its own"),
    Oddity.CANCELLED: (LEFT_OUT, "cancelled before it ran"),
    Oddity.NO_RUN_TIME: (LEFT_OUT, "no run time"),
    Oddity.NO_SUBMIT_TIME: (LEFT_OUT, "no submit time"),
    Oddity.NO_PROCESSORS: (LEFT_OUT, "no processors"),
    Oddity.TIME_OUT_OF_RANGE: (LEFT_OUT, "a time beyond all limits"),
    Oddity.TOO_LARGE: (LEFT_OUT, "more cpus than a worker has"),
    Oddity.LONGER_THAN_REQUESTED: ("cut at the requested time", "ran longer"),
    Oddity.SUBMIT_GOES_BACK: ("put in the order of time", "submit time goes back"),
}


class TraceJob(NamedTuple):
    """A job of a trace; it may never run longer than its limit."""

    number: int
    """As the trace calls it."""
    submit_us: int
    run_us: int
    limit_us: int
    cpus: int
    user: int
    """-1: not known."""


class Trace(NamedTuple):
    """The jobs in the order of their submits, those of one instant in that of their lines."""

    jobs: list[TraceJob]
    odd: OddLines[Oddity]


def read_swf(lines: Iterable[str], *, cpus_milli_max: int) -> Trace:
    """All jobs that fit on a worker with so many cpus. O(n log n)."""
    jobs: list[TraceJob] = []
    odd = OddLines(_TREATMENT)
    latest_us = 0
    for line, text in enumerate(lines, 1):
        columns = text.split()
        if not columns or columns[0].startswith(";"):
            continue
        try:
            job = _read_job(columns, cpus_milli_max)
        except Unusable as unusable:
            odd.add(unusable.kind, line, unusable.why)
            continue
        except NotANumber as error:
            odd.add(Oddity.NOT_A_NUMBER, line, str(error))
            continue
        if job.run_us > job.limit_us:
            ran, requested = format_seconds(job.run_us), format_seconds(job.limit_us)
            why = f"ran {ran} s, {requested} s were requested"
            odd.add(Oddity.LONGER_THAN_REQUESTED, line, why)
            job = job._replace(run_us=job.limit_us)
        if job.submit_us < latest_us:
            own, earlier = format_seconds(job.submit_us), format_seconds(latest_us)
            odd.add(Oddity.SUBMIT_GOES_BACK, line, f"is at {own}, one before it at {earlier}")
        latest_us = max(latest_us, job.submit_us)
        jobs.append(job)
    if odd.counts[Oddity.SUBMIT_GOES_BACK]:
        jobs.sort(key=lambda job: job.submit_us)
    return Trace(jobs, odd)


def with_exact_limits(jobs: Iterable[TraceJob]) -> list[TraceJob]:
    """The same jobs, had their users known how long they run."""
    return [job._replace(limit_us=job.run_us) for job in jobs]


def _read_job(columns: Sequence[str], cpus_milli_max: int) -> TraceJob:
    if len(columns) < _COLUMNS_MIN:
        raise Unusable(Oddity.TOO_FEW_COLUMNS, f"has {len(columns)}, and {_COLUMNS_MIN} are needed")
    number = integer(columns[0], "job number")
    submit_us = time_us(columns[1], "submit time")
    run_us = time_us(columns[3], "run time")
    allocated = integer(columns[4], "allocated processors")
    requested = integer(columns[7], "requested processors")
    estimate_us = time_us(columns[8], "requested time")
    status = columns[10] if len(columns) > 10 else ""
    user = columns[11] if len(columns) > 11 else ""
    cpus = requested if requested > 0 else allocated
    if status in _PARTIAL:
        raise Unusable(Oddity.PART_OF_A_JOB, f"has the status {status}")
    if run_us < 0:
        kind = Oddity.CANCELLED if status == _CANCELLED else Oddity.NO_RUN_TIME
        raise Unusable(kind, f"has the run time {columns[3]}")
    if submit_us < 0:
        raise Unusable(Oddity.NO_SUBMIT_TIME, f"has the submit time {columns[1]}")
    if cpus <= 0:
        raise Unusable(Oddity.NO_PROCESSORS, f"requested {requested} and was allocated {allocated}")
    if submit_us > SUBMIT_US_MAX or run_us > RUN_US_MAX:
        raise Unusable(
            Oddity.TIME_OUT_OF_RANGE, f"comes at {columns[1]} s and runs for {columns[3]} s"
        )
    if cpus * 1000 > cpus_milli_max:
        raise Unusable(
            Oddity.TOO_LARGE, f"needs {cpus}, a worker has {format_cpus(cpus_milli_max)}"
        )
    return TraceJob(
        number,
        submit_us,
        run_us,
        min(estimate_us, RUN_US_MAX) if estimate_us > 0 else run_us,
        cpus,
        optional_number(user),
    )
