"""A year of a real machine, and small cases, against what other simulators found.

`make traces TRACES=DIR` runs them on files that are no part of the project:

    KTH-SP2-1996-filtered.swf.gz   a log of the Parallel Workloads Archive, runs cut at the request
    KTH-SP2-golden.csv.gz          when each of its jobs starts on 100 cpus, a column for each order
    policy-cases.json              small cases: jobs, and when each ends
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.simulator.builders import SECOND_US, simulate, starts_of, trace_jobs
from tests.simulator.reference import Work, start_times
from titan.simulator.simulation import Schedule
from titan.simulator.statistics import compute_statistics
from titan.simulator.swf import TraceJob, read_swf, with_exact_limits
from titan.traces.file import open_trace

TRACES: Final = Path(os.environ["TITAN_TRACES"])
CPUS: Final = 100
# The order, whether limits are exact, and the column with what is right.
COLUMNS: Final = [
    ("fcfs", False, "start_fcfs"),
    ("easy", False, "start_easy_onepass"),
    ("easy", True, "start_easy_clairvoyant_onepass"),
]
SECONDS_MAX: Final = 60


def read_jobs(*, exact: bool) -> list[TraceJob]:
    with open_trace(TRACES / "KTH-SP2-1996-filtered.swf.gz") as lines:
        jobs, odd = read_swf(lines, cpus_milli_max=CPUS * 1000)
    assert odd.sentences() == []
    return with_exact_limits(jobs) if exact else jobs


def read_starts(column: str) -> list[int]:
    with gzip.open(TRACES / "KTH-SP2-golden.csv.gz", "rt") as file:
        return [int(row[column]) for row in csv.DictReader(file)]


def to_works(jobs: list[TraceJob]) -> list[Work]:
    return [
        Work(
            job.submit_us // SECOND_US, job.run_us // SECOND_US, job.limit_us // SECOND_US, job.cpus
        )
        for job in jobs
    ]


def check_starts(jobs: list[TraceJob], starts: list[float] | list[int], column: str) -> None:
    wrong = [
        f"job {job.number} starts at {start:g}, not {right}"
        for job, start, right in zip(jobs, starts, read_starts(column), strict=True)
        if start != right
    ]
    assert not wrong, f"{len(wrong)} of {len(jobs)} differ from {column}: {wrong[:5]}"


def tell(schedule: Schedule, order: str, estimates: str, real_seconds: float) -> None:
    found = compute_statistics(schedule, CPUS * 1000)
    print(
        f"\n{order}, {estimates} estimates: mean wait {found.wait_mean_seconds:.3f} s, "
        f"mean bounded slowdown {found.bounded_slowdown_mean:.5f}, "
        f"utilisation {100 * found.utilisation:.2f} %; {found.jobs} jobs in {real_seconds:.1f} s"
    )


@pytest.mark.parametrize(("order", "exact", "column"), COLUMNS)
def test_the_reference_is_right_about_a_year(order: str, exact: bool, column: str) -> None:
    jobs = read_jobs(exact=exact)
    check_starts(jobs, start_times(to_works(jobs), CPUS, order), column)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("order", "exact", "column"), COLUMNS)
def test_a_year_is_scheduled_as_it_should(order: str, exact: bool, column: str) -> None:
    jobs = read_jobs(exact=exact)
    begin = time.monotonic()
    schedule = simulate(jobs, cpus=CPUS, order=order)
    real_seconds = time.monotonic() - begin
    tell(schedule, order, "exact" if exact else "user", real_seconds)
    check_starts(jobs, starts_of(schedule), column)
    assert real_seconds <= SECONDS_MAX


@pytest.mark.timeout(600)
@pytest.mark.parametrize("order", ["skip", "easy-sjbf"])
def test_a_year_is_scheduled_as_by_the_reference(order: str) -> None:
    jobs = read_jobs(exact=False)
    begin = time.monotonic()
    schedule = simulate(jobs, cpus=CPUS, order=order)
    tell(schedule, order, "user", time.monotonic() - begin)
    assert starts_of(schedule) == start_times(to_works(jobs), CPUS, order)


def read_cases() -> list[Any]:
    cases = json.loads((TRACES / "policy-cases.json").read_text())
    chosen = [case for case in cases if case["policy"] in ("fcfs", "easy")]
    assert len(chosen) == 28
    return [pytest.param(case, id=f"{case['policy']}-{case['file']}") for case in chosen]


@pytest.mark.parametrize("case", read_cases())
def test_a_case_ends_as_it_should(case: dict[str, Any]) -> None:
    works = [
        Work(job["submit"], job["runtime"], job["estimate"], job["procs"]) for job in case["jobs"]
    ]
    right = [job["expected_finish"] for job in case["jobs"]]

    def ends(starts: list[float] | list[int]) -> list[float]:
        return [start + work.run for start, work in zip(starts, works, strict=True)]

    cpus, order = case["machine_procs"], case["policy"]
    assert ends(start_times(works, cpus, order)) == right
    assert ends(starts_of(simulate(trace_jobs(works), cpus=cpus, order=order))) == right
