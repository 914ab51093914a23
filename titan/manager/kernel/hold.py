"""Holds and updates: jobs that are to wait, to go on, or to be of another priority or length."""

from __future__ import annotations

from titan import events as ev
from titan.errors import InvalidJob
from titan.manager.kernel.chosen import Changed, choose_jobs
from titan.manager.kernel.commands import HoldJobs, UpdateJobs
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.submit import PRIORITY_MAX
from titan.model import TIME_LIMIT_MS_MAX, State, StopMode
from titan.state.job import Job


def hold_jobs(desk: Desk, command: HoldJobs) -> Changed:
    """Holds all that is meant or releases it, or changes nothing. Raises NotFound, InvalidJob."""
    chosen = choose_jobs(desk.state, command.which)
    for job in chosen.live:
        if command.releases and job.is_held:
            desk.emit(ev.JobReleased(job.job_id, command.which.user))
        elif not command.releases and not job.is_held:
            desk.emit(ev.JobHeld(job.job_id, command.which.user))
            _recall_waiting(desk, job)
    desk.schedule_wanted = True
    return chosen.changed


def update_jobs(desk: Desk, command: UpdateJobs) -> Changed:
    """Gives all that is meant another priority or time limit. Raises NotFound, InvalidJob."""
    priority, limit_ms = command.priority, command.time_limit_ms
    if priority is None and limit_ms is None:
        raise InvalidJob("nothing is to be changed: give a priority or a time limit")
    if priority is not None and abs(priority) > PRIORITY_MAX:
        raise InvalidJob("the priority is out of range")
    if limit_ms is not None and not 0 <= limit_ms <= TIME_LIMIT_MS_MAX:
        raise InvalidJob(f"the time limit must lie between 0 and {TIME_LIMIT_MS_MAX} ms")
    chosen = choose_jobs(desk.state, command.which)
    if limit_ms is not None:
        for job in chosen.live:
            if limit_ms and job.end_signal and job.end_signal_before_ms >= limit_ms:
                raise InvalidJob(
                    f"job {job.job_id} is to be signalled {job.end_signal_before_ms / 1000:g} s "
                    "before its end: its time limit must be longer"
                )
    for job in chosen.live:
        _update(
            desk,
            job,
            job.priority if priority is None else priority,
            job.time_limit_ms if limit_ms is None else limit_ms,
            command.which.user,
        )
    desk.schedule_wanted = True
    return chosen.changed


def _update(desk: Desk, job: Job, priority: int, time_limit_ms: int, user: str) -> None:
    changes_limit = time_limit_ms != job.time_limit_ms
    if not changes_limit and priority == job.priority:
        return
    desk.emit(ev.JobUpdated(job.job_id, priority, time_limit_ms, user))
    if changes_limit:
        for attempt in job.active.values():
            desk.wish(attempt, StopMode.LIMIT)


def _recall_waiting(desk: Desk, job: Job) -> None:
    """What has not started is to wait again."""
    for attempt in list(job.active.values()):
        if attempt.state is State.SCHEDULED and not attempt.is_given_up:
            desk.emit(ev.RecallRequested(attempt.job_id, attempt.index, attempt.attempt))
            desk.stop_attempt(attempt)
