"""The measures, worked out by hand."""

from __future__ import annotations

from array import array
from math import fsum

import pytest

from tests.simulator.builders import SECOND_US, trace_job
from titan.simulator.series import Series, compute_series
from titan.simulator.simulation import Schedule
from titan.simulator.statistics import Statistics, compute_statistics
from titan.simulator.swf import TraceJob


def schedule(*started: tuple[TraceJob, float]) -> Schedule:
    """Jobs, each with the second at which it started."""
    return Schedule(
        [job for job, _ in started],
        array("q", [round(start * SECOND_US) for _, start in started]),
    )


def test_every_measure_of_a_small_schedule() -> None:
    found = compute_statistics(
        schedule(
            (trace_job(100, 20, cpus=4), 100),
            (trace_job(105, 2, cpus=1), 120),
            (trace_job(110, 30, cpus=2), 120),
        ),
        4_000,
    )
    assert found == Statistics(
        jobs=3,
        # 80 + 2 + 60 of 4 cpus for 50 s.
        utilisation=142 / 200,
        wait_mean_seconds=25 / 3,
        wait_p95_seconds=15,
        wait_max_seconds=15,
        # 20/20; 17/10, since 2 s count as 10; 40/30.
        bounded_slowdown_mean=fsum((1, 1.7, 4 / 3)) / 3,
        makespan_seconds=50,
    )


def test_a_slowdown_is_never_below_one() -> None:
    found = compute_statistics(schedule((trace_job(0, 1), 2)), 1_000)
    assert found.bounded_slowdown_mean == 1


@pytest.mark.parametrize(("jobs", "p95"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95)])
def test_p95_is_a_wait_that_so_many_did_not_exceed(jobs: int, p95: int) -> None:
    waits = range(jobs, 0, -1)
    found = compute_statistics(schedule(*((trace_job(0, 1), wait) for wait in waits)), 1_000)
    assert found.wait_p95_seconds == p95
    assert found.wait_max_seconds == jobs


def test_where_no_time_passes_nothing_is_used() -> None:
    found = compute_statistics(schedule((trace_job(7, 0), 7)), 1_000)
    assert (found.makespan_seconds, found.utilisation) == (0, 0)


def test_a_series_has_the_mean_of_each_interval() -> None:
    jobs = [
        (trace_job(10, 3, cpus=4), 10),
        (trace_job(11, 2, cpus=1), 13),
        (trace_job(11, 5, cpus=2), 13),
    ]
    found = compute_series(schedule(*jobs), intervals=4)
    assert found == Series(
        # From 10 to 18.
        interval_us=2 * SECOND_US,
        # 4 4 4 3 3 2 2 2 cpus in each second, and 0 2 2 0 … jobs.
        busy_cpus=[4, 3.5, 2.5, 2],
        waiting_jobs=[1, 1, 0, 0],
    )


def test_a_series_adds_up_to_all_that_was_used() -> None:
    jobs = [(trace_job(3 * n, 7 + n % 5, cpus=1 + n % 3), 3 * n + n % 11) for n in range(40)]
    found = compute_series(schedule(*jobs), intervals=13)
    seconds = found.interval_us / SECOND_US
    used = sum(job.cpus * job.run_us for job, _ in jobs) / SECOND_US
    waited = sum(n % 11 for n in range(40))
    assert sum(found.busy_cpus) * seconds == pytest.approx(used)
    assert sum(found.waiting_jobs) * seconds == pytest.approx(waited)


def test_a_series_of_no_time_is_empty() -> None:
    found = compute_series(schedule((trace_job(7, 0), 7)), intervals=2)
    assert (found.busy_cpus, found.waiting_jobs) == ([0, 0], [0, 0])
