"""What a schedule amounts to, in the measures that the literature compares schedulers by."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Final

from titan.simulator.simulation import Schedule

# Feitelson et al., "Theory and Practice in Parallel Job Scheduling", 1997: without a bound the
# shortest jobs alone would decide the mean slowdown.
SLOWDOWN_BOUND_SECONDS: Final = 10
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of all jobs of a schedule, from the first submit to the last end."""

    jobs: int
    utilisation: float
    """Which part of the time the cpus were busy, on average; 0 where there was no time."""
    wait_mean_seconds: float
    wait_p95_seconds: float
    """So long or shorter did 95 of 100 jobs wait."""
    wait_max_seconds: float
    bounded_slowdown_mean: float
    """Of max(1, (wait + run) / max(run, 10 s))."""
    makespan_seconds: float


def compute_statistics(schedule: Schedule, cpus_milli_total: int) -> Statistics:
    """Of at least one job, on so many cpus. O(n log n)."""
    bound_us = SLOWDOWN_BOUND_SECONDS * _SECOND_US
    waits_us: list[int] = []
    slowdowns: list[float] = []
    busy_milli_us = 0
    last_end_us = 0
    for job, start_us in zip(schedule.jobs, schedule.starts_us, strict=True):
        run_us = job.run_us
        wait_us = start_us - job.submit_us
        waits_us.append(wait_us)
        slowdowns.append(max(1.0, (wait_us + run_us) / max(run_us, bound_us)))
        busy_milli_us += job.cpus * 1000 * run_us
        last_end_us = max(last_end_us, start_us + run_us)
    waits_us.sort()
    count = len(waits_us)
    makespan_us = last_end_us - schedule.jobs[0].submit_us
    return Statistics(
        jobs=count,
        utilisation=busy_milli_us / (cpus_milli_total * makespan_us) if makespan_us else 0.0,
        wait_mean_seconds=sum(waits_us) / (count * _SECOND_US),
        # The nearest rank: a wait that there was.
        wait_p95_seconds=waits_us[-(-95 * count // 100) - 1] / _SECOND_US,
        wait_max_seconds=waits_us[-1] / _SECOND_US,
        bounded_slowdown_mean=fsum(slowdowns) / count,
        makespan_seconds=makespan_us / _SECOND_US,
    )
