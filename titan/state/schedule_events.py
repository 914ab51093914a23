"""What each event changes that says when tasks may start, and for whom room is made or kept."""

from __future__ import annotations

from titan import events as ev
from titan.model import Reason, State
from titan.state.index_set import joined
from titan.state.job import Job
from titan.state.job_changes import (
    active_attempt,
    changed,
    class_of,
    deadline_entry,
    drop_class,
    end_waiting,
    live_job,
    pending_changed,
    unblocked,
)
from titan.state.tables import ALL_TASKS, Hold, Tables, require


def delays_passed(tables: Tables, event: ev.DelaysPassed) -> None:
    delayed = tables.delayed
    while delayed and delayed[0][0] <= event.until_us:
        due_us, job_id, index = delayed.pop(0)
        job: Job | None = tables.jobs.live.get(job_id)
        if job is None or job.waits is None:
            continue
        if index == ALL_TASKS:
            job.waits.delayed = False
            unblocked(tables, job)
        elif job.waits.not_before.get(index) == due_us:
            job.waits.remove(index)
            job.put_pending(index)
            pending_changed(tables, job)


def dependency_failed(tables: Tables, event: ev.DependencyFailed) -> None:
    job = live_job(tables, event)
    job.cut_short = (Reason.DEPENDENCY_FAILED, event.dependency)
    if not event.indexes:
        tables.doomed.pop(event.job_id, None)
    end_waiting(tables, job, joined(event.indexes))
    pending_changed(tables, job)


def deadline_passed(tables: Tables, event: ev.DeadlinePassed) -> None:
    job = live_job(tables, event)
    job.cut_short = (Reason.DEADLINE, 0)
    end_waiting(tables, job)
    if event.is_over:
        for attempt in job.active.values():
            if not attempt.cancel_requested:
                attempt.cancel_grace_ms = job.grace_ms
    pending_changed(tables, job)


def job_held(tables: Tables, event: ev.JobHeld) -> None:
    job = live_job(tables, event)
    job.waits_made().held = True
    pending_changed(tables, job)


def job_released(tables: Tables, event: ev.JobReleased) -> None:
    job = live_job(tables, event)
    require(event, job.is_held, "it is not held")
    job.waits_made().held = False
    unblocked(tables, job)


def job_suspended(tables: Tables, event: ev.JobSuspended) -> None:
    job = live_job(tables, event)
    job.waits_made().suspended = True
    pending_changed(tables, job)


def job_resumed(tables: Tables, event: ev.JobResumed) -> None:
    job = live_job(tables, event)
    require(event, job.is_suspended, "it is not suspended")
    job.waits_made().suspended = False
    for attempt in job.active.values():
        if attempt.suspended:
            tables.get_worker(attempt.worker).touch()
    unblocked(tables, job)


def job_updated(tables: Tables, event: ev.JobUpdated) -> None:
    job = live_job(tables, event)
    before = job.job_class
    if job.scheduling.deadline_us:
        tables.deadlines.discard(deadline_entry(job))
    job.terms = tables.shared_terms(job.terms._replace(time_limit_ms=event.time_limit_ms))
    if job.scheduling.deadline_us:
        tables.deadlines.add(deadline_entry(job))
    limit_ms = event.time_limit_ms + job.grace_ms if event.time_limit_ms else 0
    after = class_of(tables, before.key._replace(priority=event.priority, limit_ms=limit_ms))
    for attempt in job.active.values():
        tables.get_worker(attempt.worker).change_limit(attempt, limit_ms)
    if after is not before:
        if before.pending_jobs.pop(job.job_id, 0) is None:
            tables.touched_classes[before.class_id] = None
        before.jobs -= 1
        after.jobs += 1
        # What is under way stays with the class that its worker knows it by.
        for attempt in job.active.values():
            before.strays += attempt.job_class is before
            after.strays -= attempt.job_class is after
        job.job_class = after
        drop_class(tables, before)
    pending_changed(tables, job)


def attempt_suspended(tables: Tables, event: ev.AttemptSuspended) -> None:
    job, attempt = active_attempt(tables, event)
    require(event, attempt.state is State.RUNNING, "it does not run")
    require(event, not attempt.suspended, "it is suspended")
    tables.get_worker(attempt.worker).suspend(attempt)
    # Its time limit stands still with it: until it goes on, this is what it has used, negated.
    attempt.since_us -= tables.time_us
    if event.for_job:
        tables.holds[attempt.worker] = Hold(event.for_job, True)
    changed(tables, job)


def attempt_resumed(tables: Tables, event: ev.AttemptResumed) -> None:
    job, attempt = active_attempt(tables, event)
    require(event, attempt.suspended, "it is not suspended")
    attempt.since_us += tables.time_us
    tables.get_worker(attempt.worker).resume(attempt)
    changed(tables, job)


def preempted(tables: Tables, event: ev.Preempted) -> None:
    job, attempt = active_attempt(tables, event)
    attempt.preempt_grace_ms = event.grace_ms
    if event.for_job:
        tables.holds[attempt.worker] = Hold(event.for_job, True)
    changed(tables, job)


def reserved(tables: Tables, event: ev.Reserved) -> None:
    live_job(tables, event)
    require(event, tables.get_worker(event.worker).takes_tasks, "the worker takes no tasks")
    tables.holds[event.worker] = Hold(event.job_id, False)


def reservation_lifted(tables: Tables, event: ev.ReservationLifted) -> None:
    require(event, event.worker in tables.holds, "it is kept for nobody")
    del tables.holds[event.worker]


def policy_set(tables: Tables, event: ev.PolicySet) -> None:
    tables.policy = event
