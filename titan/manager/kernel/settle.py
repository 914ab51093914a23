"""What follows from the state by itself: delays that pass, dependencies that failed, deadlines.

Written down before each pass and at each tick, so that a crash in between loses none of it.
"""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.manager.kernel.desk import Desk
from titan.model import IndexRange
from titan.state.job import Job
from titan.state.tables import ALL_TASKS

# So many jobs are cut short in one turn.
DEADLINES_AT_ONCE_MAX: Final = 1_000
# Of one event; each takes some 12 bytes of the log.
RANGES_PER_EVENT_MAX: Final = 100_000


def settle(desk: Desk) -> None:
    """Writes down what is due. Costs by that."""
    state = desk.state
    if desk.room and state.delayed and state.delayed[0][0] <= desk.now_us:
        desk.emit(ev.DelaysPassed(desk.now_us))
        desk.schedule_wanted = True
    if state.deadlines and state.deadlines[0][0] <= desk.now_us:
        _check_deadlines(desk)
    while state.doomed or state.overfailed:
        for job_id in list(state.overfailed):
            _cancel_overfailed(desk, state.get_job(job_id))
        for job_id, tasks in list(state.doomed.items()):
            for event in _failed_dependencies(state.get_job(job_id), tasks):
                desk.emit(event)
        desk.schedule_wanted = True


def _failed_dependencies(job: Job, tasks: dict[int, int]) -> list[ev.DependencyFailed]:
    """The events for a job's tasks, those between which none of it waits in one range."""
    if ALL_TASKS in tasks:
        return [ev.DependencyFailed(job.job_id, (), tasks[ALL_TASKS])]
    by_dependency: dict[int, list[IndexRange]] = {}
    before = -1
    for index in sorted(tasks):
        ranges = by_dependency.setdefault(tasks[index], [])
        if ranges and ranges[-1].stop == before + 1 and job.next_waiting(before + 1) == index:
            ranges[-1] = IndexRange(ranges[-1].start, index + 1)
        else:
            ranges.append(IndexRange(index, index + 1))
        before = index
    return [
        ev.DependencyFailed(job.job_id, tuple(ranges[at : at + RANGES_PER_EVENT_MAX]), dependency)
        for dependency, ranges in by_dependency.items()
        for at in range(0, len(ranges), RANGES_PER_EVENT_MAX)
    ]


def _cancel_overfailed(desk: Desk, job: Job) -> None:
    desk.emit(ev.CancelRequested(job.job_id, (), job.grace_ms))
    for attempt in job.active.values():
        desk.stop_attempt(attempt)


def _check_deadlines(desk: Desk) -> None:
    live = desk.state.jobs.live
    due = desk.state.deadlines.irange(None, (desk.now_us, 1 << 62))
    # Those that run and may still be in time stay due: they take no part of the number.
    late = [job for job in (live[job_id] for _, job_id in due) if _is_late(job, desk.now_us)]
    for job in late[:DEADLINES_AT_ONCE_MAX]:
        is_over = job.scheduling.deadline_us <= desk.now_us
        desk.emit(ev.DeadlinePassed(job.job_id, is_over))
        for attempt in job.active.values() if is_over else ():
            desk.stop_attempt(attempt)
        desk.schedule_wanted = True


def _is_late(job: Job, now_us: int) -> bool:
    """Whether a job that is due has something that can't end in time."""
    if job.counts[0]:
        return True
    is_over = job.scheduling.deadline_us <= now_us
    return is_over and any(not each.cancel_requested for each in job.active.values())
