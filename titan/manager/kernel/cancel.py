"""Cancels: what waits ends at once, what is under way ends when its worker says so."""

from __future__ import annotations

from titan import events as ev
from titan.errors import InvalidJob
from titan.manager.kernel.chosen import choose_tasks
from titan.manager.kernel.commands import CancelJobs, Changed
from titan.manager.kernel.desk import Desk
from titan.model import GRACE_MS_MAX, SIGNAL_MAX, IndexRange
from titan.state.job import Job


def cancel_jobs(desk: Desk, command: CancelJobs) -> Changed:
    """Cancels all that is meant, or nothing. Raises NotFound, InvalidJob, PermissionDenied."""
    if not 0 <= command.grace_ms <= GRACE_MS_MAX:
        raise InvalidJob("the grace must lie between 0 and a day")
    if not 1 <= command.signal <= SIGNAL_MAX:
        raise InvalidJob(f"{command.signal} is no signal: they are 1 to {SIGNAL_MAX}")
    chosen = choose_tasks(desk.state, command.which)
    already = [job.job_id for job, _ in chosen if job.has_ended]
    for job, selector in chosen:
        if not job.has_ended:
            _cancel(desk, job, selector.indexes, command)
    # Others may have waited behind what is gone.
    desk.schedule_wanted = True
    return Changed([job.job_id for job, _ in chosen], already)


def _cancel(desk: Desk, job: Job, indexes: tuple[IndexRange, ...], command: CancelJobs) -> None:
    """Writes the wish down and passes it on; asking twice shortens the grace."""
    user = command.which.user
    desk.emit(ev.CancelRequested(job.job_id, indexes, command.grace_ms, command.signal, user))
    for attempt in job.active.values():
        if attempt.cancel_requested and _is_meant(attempt.index, indexes):
            desk.stop_attempt(attempt)


def _is_meant(index: int, indexes: tuple[IndexRange, ...]) -> bool:
    return not indexes or any(index in each.indexes for each in indexes)
