"""Requeues: what is under way waits again; what ended and did not complete is submitted again."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.errors import InvalidJob, Refused
from titan.manager.kernel.chosen import choose_tasks
from titan.manager.kernel.commands import Requeued, RequeueJobs, Submitted
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.submit import (
    JOBS_PER_REQUEST_MAX,
    REQUEST_BYTES_MAX,
    accept_request,
    check_lease,
    check_memory,
    find_earlier,
)
from titan.model import GRACE_MS_MAX, IndexRange, Reason, State, index_ranges, task_name
from titan.queries.selection import JobSelector
from titan.state.attempts import EndedAttempt
from titan.state.job import Job

# A look at each of them takes the loop some microseconds.
SUBMITTED_AGAIN_TASKS_MAX: Final = 1_000_000


def requeue_jobs(desk: Desk, command: RequeueJobs) -> Requeued:
    """Puts all that is meant back, or changes nothing.

    Raises NotFound, InvalidJob, NoRoom, and Refused for a job that completed.
    """
    if not 0 <= command.grace_ms <= GRACE_MS_MAX:
        raise InvalidJob("the grace must lie between 0 and a day")
    user = command.which.user
    chosen = choose_tasks(desk.state, command.which)
    known = find_earlier(desk, user, command.request_id, command.content)
    if known is not None:
        return _answered_before(desk, command, chosen, known)
    ended: dict[int, tuple[Job, list[JobSelector]]] = {}
    for job, selector in chosen:
        if job.job_class.at_most_once and not job.has_ended:
            _check_unbegun(job, selector)
        if job.has_ended:
            _check_secrets(desk, job)
            ended.setdefault(job.job_id, (job, []))[1].append(selector)
    if any(job.job_class.at_most_once for job, _ in ended.values()):
        check_lease(desk.settings)
    arrays = [_left_over(job, selectors) for job, selectors in ended.values()]
    first = desk.state.next_job_id
    submits = [
        _submit_again(job, array, first + place)
        for place, ((job, _), array) in enumerate(zip(ended.values(), arrays, strict=True))
    ]
    _check_size(submits)
    check_memory(desk, [(each.array, each.scheduling) for each in submits])
    for job, selector in chosen:
        if not job.has_ended:
            _stop_tasks(desk, job, selector, command.grace_ms, user)
    for event in submits:
        desk.emit(event)
    again = {job_id: event.job_id for job_id, event in zip(ended, submits, strict=True)}
    if again:
        accept_request(
            desk, user, command.request_id, command.content, range(first, first + len(again))
        )
    desk.schedule_wanted = True
    return Requeued([again.get(job.job_id, job.job_id) for job, _ in chosen], again)


def _answered_before(
    desk: Desk,
    command: RequeueJobs,
    chosen: list[tuple[Job, JobSelector]],
    known: Submitted,
) -> Requeued:
    """The answer to a request that comes again: what has ended since had been put back by it."""
    request = desk.state.requests.get(command.which.user, command.request_id)
    assert request is not None
    had_ended = {job.job_id: None for job, _ in chosen if 0 < job.ended_us <= request.time_us}
    again = dict(zip(had_ended, known.job_ids, strict=False))
    return Requeued([again.get(job.job_id, job.job_id) for job, _ in chosen], again)


def _check_size(submits: list[ev.JobSubmitted]) -> None:
    """They go into one record, as those of a submit do. Raises InvalidJob."""
    size = len(ev.encode_record(0, submits[: JOBS_PER_REQUEST_MAX + 1]))
    if len(submits) > JOBS_PER_REQUEST_MAX or size > REQUEST_BYTES_MAX:
        raise InvalidJob(
            f"{len(submits)} jobs that ended are too many to be submitted again at once, or too "
            "large: choose fewer of them, or fewer of their tasks"
        )


def _check_unbegun(job: Job, selector: JobSelector) -> None:
    """Raises Refused when something that runs, and does so at most once, is meant."""
    for each in job.active.values():
        is_running = each.state is State.RUNNING and not each.cancel_requested
        if is_running and _is_meant(selector, each.index):
            raise _has_begun(job, each.index)


def _check_secrets(desk: Desk, job: Job) -> None:
    """Raises Refused for one that had secrets, which went with its end."""
    if desk.state.environments[job.environment].secret_id:
        raise Refused(
            f"job {job.job_id} has ended and its secrets are gone: it can't be run again; submit "
            "it anew"
        )


def _check_never_begun(job: Job, indexes: set[int]) -> None:
    """Raises Refused when an attempt at one of these tasks, which ended, may have begun."""
    last: dict[int, EndedAttempt] = {}
    for each in job.ended or ():
        if each.index in indexes:
            last[each.index] = each
            was_lost = each.state == State.FAILED and each.reason == Reason.WORKER_LOST
            if each.start_us or was_lost:
                raise _has_begun(job, each.index)
    for each in last.values():
        # It was lost while it was being cancelled. What was lost before it was sent waited again.
        if each.state == State.LOST and each.index not in (job.cancelled or ()):
            raise _has_begun(job, each.index)


def _has_begun(job: Job, index: int) -> Refused:
    return Refused(
        f"{task_name(job.job_id, index, job.is_array)} has begun and runs at most once: it is not "
        "put back; to have it run again all the same, submit it as another job"
    )


def _stop_tasks(desk: Desk, job: Job, selector: JobSelector, grace_ms: int, user: str) -> None:
    for attempt in list(job.active.values()):
        if attempt.cancel_requested or attempt.preempted or not _is_meant(selector, attempt.index):
            continue
        if attempt.state is State.SCHEDULED:
            if not attempt.recall_requested:
                desk.emit(ev.RecallRequested(attempt.job_id, attempt.index, attempt.attempt, user))
        else:
            desk.emit(
                ev.Preempted(attempt.job_id, attempt.index, attempt.attempt, 0, grace_ms, user)
            )
        desk.stop_attempt(attempt)


def _left_over(job: Job, selectors: list[JobSelector]) -> tuple[IndexRange, ...]:
    """The tasks of an ended job that did not complete.

    Raises Refused when a choice has none, or one that may have begun and runs at most once.
    """
    if job.tasks_total > SUBMITTED_AGAIN_TASKS_MAX:
        raise Refused(
            f"job {job.job_id} has over {SUBMITTED_AGAIN_TASKS_MAX} tasks, too many to look "
            "through here: submit those that failed by --array (`titan show --state FAILED`)"
        )
    ends = job.task_ends()
    left: set[int] = set()
    for selector in selectors:
        chosen = {
            index
            for index, state in ends.items()
            if state is not State.COMPLETED and _is_meant(selector, index)
        }
        if not chosen:
            raise Refused(
                f"job {job.job_id} ended and completed what is meant: nothing is left to be run "
                "again; to run it once more submit it once more"
            )
        left |= chosen
    if job.job_class.at_most_once:
        _check_never_begun(job, left)
    return index_ranges(sorted(left)) if job.is_array else ()


def _submit_again(job: Job, array: tuple[IndexRange, ...], job_id: int) -> ev.JobSubmitted:
    """A new job as that one was. What it waited for has happened, or never will."""
    key = job.job_class.key
    affinities = tuple(
        each._replace(job_id=job_id) if each.job_id == job.job_id else each
        for each in key.affinities
    )
    scheduling = job.scheduling._replace(
        after=(), begin_us=0, deadline_us=0, held=False, affinities=affinities
    )
    return ev.JobSubmitted(
        job_id, job.user, job.name, job.command, job.cwd, job.environment,
        key.demand.cpus_milli, key.demand.memory_bytes, key.demand.named, job.priority, array,
        job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms,
        job.execution, key.on, scheduling,
    )  # fmt: skip


def _is_meant(selector: JobSelector, index: int) -> bool:
    return not selector.indexes or any(index in each.indexes for each in selector.indexes)
