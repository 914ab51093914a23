"""Suspending and resuming: what runs stands still where it is, and later runs on."""

from __future__ import annotations

from titan import events as ev
from titan.manager.kernel.chosen import Changed, choose_jobs
from titan.manager.kernel.commands import SuspendJobs
from titan.manager.kernel.desk import Desk
from titan.model import State, StopMode
from titan.state.attempts import Attempt
from titan.state.job import Job


def suspend_jobs(desk: Desk, command: SuspendJobs) -> Changed:
    """Suspends all that is meant or resumes it, or changes nothing. Raises NotFound, InvalidJob."""
    chosen = choose_jobs(desk.state, command.which)
    for job in chosen.live:
        if command.resumes and job.is_suspended:
            desk.emit(ev.JobResumed(job.job_id, command.which.user))
        elif not command.resumes and not job.is_suspended:
            _suspend(desk, job, command.which.user)
    desk.schedule_wanted = True
    return chosen.changed


def suspend_attempt(desk: Desk, attempt: Attempt, for_job: int = 0) -> None:
    """A running attempt stands still from now on."""
    desk.emit(ev.AttemptSuspended(attempt.job_id, attempt.index, attempt.attempt, for_job))
    desk.wish(attempt, StopMode.SUSPEND)
    # Its cpus are for others.
    desk.schedule_wanted = True
    # Whoever waits ahead of a slot waits for a short task, and not for one that stands still.
    here = desk.state.get_worker(attempt.worker).classes[attempt.job_class.class_id]
    for each in list(here.ahead.values()):
        _recall(desk, each)
    # A start that is told after its job was suspended leaves its cpus, too.
    desk.schedule_wanted = True


def resume_attempt(desk: Desk, attempt: Attempt) -> None:
    """It runs on: its cpus are free."""
    desk.emit(ev.AttemptResumed(attempt.job_id, attempt.index, attempt.attempt))
    desk.wish(attempt, StopMode.RESUME)


def _suspend(desk: Desk, job: Job, user: str) -> None:
    desk.emit(ev.JobSuspended(job.job_id, user))
    for attempt in list(job.active.values()):
        if attempt.is_given_up or attempt.suspended:
            continue
        if attempt.state is State.RUNNING:
            suspend_attempt(desk, attempt)
        else:
            _recall(desk, attempt)


def _recall(desk: Desk, attempt: Attempt) -> None:
    if not attempt.is_given_up:
        desk.emit(ev.RecallRequested(attempt.job_id, attempt.index, attempt.attempt))
        desk.stop_attempt(attempt)
