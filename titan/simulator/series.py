"""How busy a cluster was and how many jobs waited, over time: means of equal intervals."""

from __future__ import annotations

from typing import Final, NamedTuple

from titan.simulator.simulation import Schedule

# About as many as a picture can show.
INTERVALS: Final = 500


class Series(NamedTuple):
    """Each interval is as long as the others; the first begins with the first submit."""

    interval_us: float
    busy_cpus: list[float]
    waiting_jobs: list[float]


def compute_series(schedule: Schedule, intervals: int = INTERVALS) -> Series:
    """Of at least one job. O(n log n)."""
    # At each moment the change of cpus that are busy, and of jobs that wait.
    changes: list[tuple[int, int, int]] = []
    for job, start_us in zip(schedule.jobs, schedule.starts_us, strict=True):
        changes.append((job.submit_us, 0, 1))
        changes.append((start_us, job.cpus, -1))
        changes.append((start_us + job.run_us, -job.cpus, 0))
    changes.sort()
    origin_us = changes[0][0]
    interval_us = max(1, changes[-1][0] - origin_us) / intervals
    busy_area = [0.0] * intervals
    waiting_area = [0.0] * intervals
    busy = waiting = 0
    before = 0.0
    for moment_us, cpus, jobs in changes:
        now = (moment_us - origin_us) / interval_us
        if now > before and (busy or waiting):
            _spread(busy_area, before, now, busy)
            _spread(waiting_area, before, now, waiting)
        busy += cpus
        waiting += jobs
        before = now
    return Series(interval_us, busy_area, waiting_area)


def _spread(area: list[float], begin: float, end: float, value: int) -> None:
    """Adds the value for that time, in intervals, to each interval's mean."""
    if not value:
        return
    place = int(begin)
    last = len(area)
    while place < last and begin < end:
        until = min(place + 1.0, end)
        area[place] += value * (until - begin)
        begin = until
        place += 1
