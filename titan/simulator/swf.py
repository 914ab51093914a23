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

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from titan.model import TIME_LIMIT_MS_MAX
from titan.units import format_cpus

SECOND_US: Final = 1_000_000
# So many odd lines of a kind are named; the others are counted.
EXAMPLES_MAX: Final = 3

_COLUMNS_MIN: Final = 9
# A run may not take longer than a job's time limit, and a submit may come three centuries late:
# all sums of them are far from the ends of what the log has room for.
_RUN_US_MAX: Final = TIME_LIMIT_MS_MAX * 1000
_SUBMIT_US_MAX: Final = 10_000_000_000 * SECOND_US
# ASCII digits only, and few of them. Some converters write times with decimals.
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,15})\.([0-9]{1,15})")
_PARTIAL: Final = ("2", "3", "4")
_CANCELLED: Final = "5"
_SHOWN_MAX: Final = 20


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


_LEFT_OUT: Final = "left out"
_TREATMENT: Final[dict[Oddity, tuple[str, str]]] = {
    Oddity.TOO_FEW_COLUMNS: (_LEFT_OUT, "too few columns"),
    Oddity.NOT_A_NUMBER: (_LEFT_OUT, "not a number"),
    Oddity.PART_OF_A_JOB: (_LEFT_OUT, "part of a job that has a line of its own"),
    Oddity.CANCELLED: (_LEFT_OUT, "cancelled before it ran"),
    Oddity.NO_RUN_TIME: (_LEFT_OUT, "no run time"),
    Oddity.NO_SUBMIT_TIME: (_LEFT_OUT, "no submit time"),
    Oddity.NO_PROCESSORS: (_LEFT_OUT, "no processors"),
    Oddity.TIME_OUT_OF_RANGE: (_LEFT_OUT, "a time beyond all limits"),
    Oddity.TOO_LARGE: (_LEFT_OUT, "more cpus than a worker has"),
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


class OddLines:
    """How many lines were odd in which way, and the first few of each."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Oddity, 0)
        self._examples: dict[Oddity, list[str]] = {each: [] for each in Oddity}

    def add(self, kind: Oddity, line: int, why: str) -> None:
        """Another one; `why` goes on after "line 7"."""
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES_MAX:
            self._examples[kind].append(f"line {line} {why}")

    def sentences(self) -> list[str]:
        """One for each kind that there was."""
        told = []
        for kind, count in self.counts.items():
            if count:
                treatment, text = _TREATMENT[kind]
                named = [*self._examples[kind], *(["…"] if count > EXAMPLES_MAX else [])]
                lines = "line" if count == 1 else "lines"
                told.append(f"{count} {lines} {treatment}, {text}: {'; '.join(named)}")
        return told


class Trace(NamedTuple):
    """The jobs in the order of their submits, those of one instant in that of their lines."""

    jobs: list[TraceJob]
    odd: OddLines


def read_swf(lines: Iterable[str], *, cpus_milli_max: int) -> Trace:
    """All jobs that fit on a worker with so many cpus. O(n log n)."""
    jobs: list[TraceJob] = []
    odd = OddLines()
    latest_us = 0
    for line, text in enumerate(lines, 1):
        columns = text.split()
        if not columns or columns[0].startswith(";"):
            continue
        try:
            job = _read_job(columns, cpus_milli_max)
        except _Unusable as unusable:
            odd.add(unusable.kind, line, unusable.why)
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


def format_seconds(time_us: int) -> str:
    """`12`, or `12.5` where it is not a whole second."""
    seconds, rest_us = divmod(abs(time_us), SECOND_US)
    sign = "-" if time_us < 0 else ""
    return f"{sign}{seconds}" + (f".{rest_us:06}".rstrip("0") if rest_us else "")


class _Unusable(Exception):
    """Of this line no job can be made."""

    def __init__(self, kind: Oddity, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


def _read_job(columns: Sequence[str], cpus_milli_max: int) -> TraceJob:
    if len(columns) < _COLUMNS_MIN:
        raise _Unusable(
            Oddity.TOO_FEW_COLUMNS, f"has {len(columns)}, and {_COLUMNS_MIN} are needed"
        )
    number = _integer(columns[0], "job number")
    submit_us = _time_us(columns[1], "submit time")
    run_us = _time_us(columns[3], "run time")
    allocated = _integer(columns[4], "allocated processors")
    requested = _integer(columns[7], "requested processors")
    estimate_us = _time_us(columns[8], "requested time")
    status = columns[10] if len(columns) > 10 else ""
    user = columns[11] if len(columns) > 11 else ""
    cpus = requested if requested > 0 else allocated
    if status in _PARTIAL:
        raise _Unusable(Oddity.PART_OF_A_JOB, f"has the status {status}")
    if run_us < 0:
        kind = Oddity.CANCELLED if status == _CANCELLED else Oddity.NO_RUN_TIME
        raise _Unusable(kind, f"has the run time {columns[3]}")
    if submit_us < 0:
        raise _Unusable(Oddity.NO_SUBMIT_TIME, f"has the submit time {columns[1]}")
    if cpus <= 0:
        raise _Unusable(
            Oddity.NO_PROCESSORS, f"requested {requested} and was allocated {allocated}"
        )
    if submit_us > _SUBMIT_US_MAX or run_us > _RUN_US_MAX:
        raise _Unusable(
            Oddity.TIME_OUT_OF_RANGE, f"comes at {columns[1]} s and runs for {columns[3]} s"
        )
    if cpus * 1000 > cpus_milli_max:
        raise _Unusable(
            Oddity.TOO_LARGE, f"needs {cpus}, a worker has {format_cpus(cpus_milli_max)}"
        )
    return TraceJob(
        number,
        submit_us,
        run_us,
        min(estimate_us, _RUN_US_MAX) if estimate_us > 0 else run_us,
        cpus,
        int(user) if _INTEGER.fullmatch(user) and int(user) > 0 else -1,
    )


def _integer(text: str, column: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _not_a_number(text, column)
    return int(text)


def _time_us(text: str, column: str) -> int:
    if _INTEGER.fullmatch(text):
        return int(text) * SECOND_US
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise _not_a_number(text, column)
    time_us = int(match[2]) * SECOND_US + int(match[3][:6].ljust(6, "0"))
    return -time_us if match[1] else time_us


def _not_a_number(text: str, column: str) -> _Unusable:
    shown = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
    return _Unusable(Oddity.NOT_A_NUMBER, f"has {shown!r} as its {column}")
