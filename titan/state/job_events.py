"""What each event about jobs and their attempts changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from titan import events as ev
from titan.model import ATTEMPT_TRANSITIONS, TASK_TRANSITIONS, Resources, State
from titan.scheduling import PLAIN_SCHEDULING
from titan.state.attempts import Attempt, AttemptLog, EndedAttempt, pack_ended
from titan.state.index_set import is_within, joined
from titan.state.job import Job, Terms
from titan.state.job_changes import (
    active_attempt,
    await_dependencies,
    changed,
    class_of,
    count_tasks,
    deadline_entry,
    drop_class,
    end_waiting,
    key_of_event,
    live_job,
    pending_changed,
    task_ended,
)
from titan.state.request_table import Request
from titan.state.tables import ALL_TASKS, IllegalEvent, Tables, require

# What `TaskAssigned.rule` says: 1 moves the round-robin pointer, 0 does not.
RULE_ROUND_ROBIN: Final = 1

# A million tasks go through these few lines at a replay. Calling an enum costs ten times a look-up,
# and its hash, which a dict asks for, is a Python function: tables by number it is.
_STATES: Final = tuple(State(each) if each else State.PENDING for each in range(len(State) + 1))
_TASK_TRANSITIONS: Final = tuple(TASK_TRANSITIONS.get(each, ()) for each in _STATES)
_ATTEMPT_TRANSITIONS: Final = tuple(ATTEMPT_TRANSITIONS.get(each, ()) for each in _STATES)
_PENDING, _SCHEDULED, _RUNNING = State.PENDING, State.SCHEDULED, State.RUNNING
_COMPLETED: Final = State.COMPLETED

# All but number, name and command.
_SHARED_FIELDS: Final = itemgetter(
    ev.JobSubmitted._fields.index("user"), slice(ev.JobSubmitted._fields.index("cwd"), None)
)


def environment_stored(tables: Tables, event: ev.EnvironmentStored) -> None:
    if event.digest not in tables.environments:
        tables.add_environment(event, 0)


def job_submitted(tables: Tables, event: ev.JobSubmitted) -> None:
    _submit_alike(tables, (event,))


def jobs_submitted(tables: Tables, events: Sequence[ev.JobSubmitted]) -> None:
    """The same for one after the other; what those side by side share is looked up once."""
    if len(events) == 1:
        _submit_alike(tables, events)
        return
    for _, group in groupby(events, _SHARED_FIELDS):
        alike = tuple(group)
        if alike[0].scheduling is PLAIN_SCHEDULING:
            _submit_alike(tables, alike)
        else:
            for event in alike:
                _submit_alike(tables, (event,))


def _submit_alike(tables: Tables, events: Sequence[ev.JobSubmitted]) -> None:
    """Jobs that differ in number, name and command alone. More than one ask for nothing special."""
    event, first = events[0], tables.next_job_id
    require(event, event.job_id == first, "job ids count up")
    require(event, event.environment in tables.environments, "its environment is not known")
    demand = Resources(event.cpus_milli, event.memory_bytes, event.named)
    job_class = class_of(tables, key_of_event(event, demand))
    terms = tables.shared_terms(
        Terms(
            event.cwd, event.environment, event.time_limit_ms, event.grace_ms, event.end_signal,
            event.end_signal_before_ms, event.execution,
        )
    )  # fmt: skip
    epoch, lsn, time_us = tables.epoch, tables.lsn, tables.time_us
    jobs = [Job(each, epoch, lsn, time_us, job_class, terms) for each in events]
    count = len(jobs)
    # Everywhere the same objects, which a range would make anew.
    job_ids = [job.job_id for job in jobs]
    if count > 1:
        require(event, job_ids == [*range(first, first + count)], "job ids count up")
    tables.next_job_id = first + count
    tables.jobs.add(job_ids, jobs)
    job_class.jobs += count
    tables.environment_jobs[event.environment] += count
    if event.scheduling is not PLAIN_SCHEDULING:
        _begin_waiting(tables, jobs[0])
    else:
        if count == 1:
            job_class.pending_jobs[event.job_id] = None
        else:
            job_class.pending_jobs.update(dict.fromkeys(job_ids))
        tables.touched_classes[job_class.class_id] = None
    tables.last_job_of[event.user] = job_ids[-1]
    tables.task_counts[0] += count * jobs[0].counts[0]
    tables.job_counts[0] += count


def request_accepted(tables: Tables, event: ev.RequestAccepted) -> None:
    user, request_id, content, first_job_id, jobs = event
    answered = Request(content, first_job_id, jobs, tables.time_us)
    tables.requests.add(user, request_id, answered)


def cancel_requested(tables: Tables, event: ev.CancelRequested) -> None:
    job = live_job(tables, event)
    if not event.indexes:
        job.cancel_requested = True
    spans = joined(event.indexes)
    end_waiting(tables, job, spans)
    for attempt in job.active.values():
        if not spans or is_within(attempt.index, spans):
            attempt.cancel_grace_ms = event.grace_ms
            attempt.cancel_signal = event.signal
    if not event.indexes:
        tables.overfailed.pop(job.job_id, None)
    pending_changed(tables, job)


def task_assigned(tables: Tables, event: ev.TaskAssigned) -> None:
    job_id, index, number, worker_number, ahead, _, _, rule = event
    job = tables.jobs.live.get(job_id) or live_job(tables, event)
    worker = tables.workers[worker_number]
    made = job.attempts_made
    if number != (1 if made is None else job.next_attempt(index)):
        raise IllegalEvent(event, "attempts count up")
    if worker.is_stopping or worker.drain is not None:
        raise IllegalEvent(event, "its worker is draining")
    if job.job_class.on and not worker.may_run(job.job_class):
        raise IllegalEvent(event, f"it is to run on {job.job_class.on}")
    if not job.may_start:
        raise IllegalEvent(event, "its job waits for something else than room")
    try:
        job.take_pending(index)
    except KeyError:
        raise IllegalEvent(event, f"the task is {job.find_task_state(index)}") from None
    if made is not None:
        job.forget_attempts(index)
    attempt = Attempt(job.job_class, job_id, index, number, worker_number, ahead, tables.time_us)
    job.add_active(attempt)
    job.attempts_total += 1
    worker.add(attempt)
    if rule == RULE_ROUND_ROBIN:
        tables.round_robin = worker_number
    count_tasks(tables, job, _PENDING, _SCHEDULED, 1)
    pending_changed(tables, job)
    if tables.holds:
        _use_holds(tables, job, worker_number)


def recall_requested(tables: Tables, event: ev.RecallRequested) -> None:
    _, attempt = active_attempt(tables, event)
    require(event, attempt.state is _SCHEDULED, "only what has not started can be recalled")
    attempt.recall_requested = True


def recalled(tables: Tables, event: ev.Recalled) -> None:
    job, attempt = active_attempt(tables, event)
    _leave(tables, event, job, attempt, State.RECALLED)
    if job.ended is None:
        job.ended = AttemptLog()
    job.ended.data += pack_ended(
        event.index, event.attempt, attempt.worker, State.RECALLED, 0, 0, -1, 0,
        tables.time_us, 0, 0, 0,
    )  # fmt: skip
    _back_to_pending(tables, job, event.index, event.attempt, _SCHEDULED)
    pending_changed(tables, job)


def task_started(tables: Tables, event: ev.TaskStarted) -> None:
    job, attempt = active_attempt(tables, event)
    _start(tables, event, job, attempt, event.start_us)
    changed(tables, job)


def attempt_ended(tables: Tables, event: ev.AttemptEnded) -> None:
    (
        job_id, index, number, state, reason, exit_code, signal, start_us, end_us,
        cpu_user_us, cpu_system_us, max_rss_bytes, detail, task_state_number, not_before_us, charge,
    ) = event  # fmt: skip
    job = tables.jobs.live.get(job_id) or live_job(tables, event)
    attempt = job.active.get(index)
    if attempt is None or attempt.attempt != number:
        attempt = None
        task_state, lost = _revive(tables, event, job)
        worker = lost.worker
        if start_us:
            _note_start(job, start_us)
    else:
        if start_us and attempt.state is _SCHEDULED:
            _start(tables, event, job, attempt, start_us)
        task_state, worker = attempt.state, attempt.worker
    becomes = _STATES[task_state_number]
    if becomes not in _TASK_TRANSITIONS[task_state]:
        raise IllegalEvent(event, f"the task is {task_state.name}")
    _leave(tables, event, job, attempt, _STATES[state])
    if job.ended is None:
        job.ended = AttemptLog()
    job.ended.data += pack_ended(
        index, number, worker, state, reason, signal if signal > 0 else 0, exit_code,
        start_us, end_us, cpu_user_us, cpu_system_us, max_rss_bytes,
    )  # fmt: skip
    if detail or charge:
        _note_more(job, event, worker)
    if becomes is _PENDING:
        _back_to_pending(tables, job, index, number, task_state, not_before_us)
    else:
        job.end_us = max(job.end_us, end_us)
        _end_task(tables, job, index, number, task_state, becomes)
    if start_us and state == _COMPLETED:
        # The clock of a worker may step back meanwhile.
        job.job_class.learn_run(end_us - start_us if end_us > start_us else 0)
    if attempt is None or becomes is _PENDING or job.scheduling.array_limit:
        pending_changed(tables, job)
    else:
        changed(tables, job)


def adopted(tables: Tables, event: ev.Adopted) -> None:
    job = live_job(tables, event)
    task_state, lost = _revive(tables, event, job)
    if event.takes_back_loss:
        _take_back_loss(job, lost)
    attempt = Attempt(
        job.job_class, event.job_id, event.index, event.attempt, lost.worker, False, tables.time_us
    )
    attempt.state = State.RUNNING
    attempt.start_us = event.start_us
    # Nobody knows any more what its worker was told before it was given up.
    attempt.was_suspended = attempt.limit_changed = True
    job.add_active(attempt)
    # The number of the next attempt does not go back with it.
    job.note_attempts(event.index, job.next_attempt(event.index) - 1)
    tables.get_worker(lost.worker).add(attempt)
    job.remove_pending(event.index)
    _note_start(job, event.start_us)
    count_tasks(tables, job, task_state, State.RUNNING, 1)
    pending_changed(tables, job)


def jobs_forgotten(tables: Tables, event: ev.JobsForgotten) -> None:
    for job_id in event.job_ids:
        job = tables.jobs.forget(job_id)
        tables.job_counts[job.state - 1] -= 1
        for position, count in enumerate(job.counts):
            tables.task_counts[position] -= count
        left = tables.environment_jobs[job.environment] - 1
        tables.environment_jobs[job.environment] = left
        if not left:
            tables.drop_environment(job.environment)
        job.job_class.jobs -= 1
        drop_class(tables, job.job_class)


def _start(tables: Tables, event: ev.Event, job: Job, attempt: Attempt, start_us: int) -> None:
    if _RUNNING not in _ATTEMPT_TRANSITIONS[attempt.state]:
        raise IllegalEvent(event, f"it is {attempt.state.name}")
    worker = tables.workers[attempt.worker]
    worker.start(attempt)
    attempt.since_us = tables.time_us
    if attempt.limit_ms:
        worker.touch()
    attempt.state = _RUNNING
    attempt.start_us = start_us
    _note_start(job, start_us)
    count_tasks(tables, job, _SCHEDULED, _RUNNING, 1)


def _leave(tables: Tables, event: Any, job: Job, attempt: Attempt | None, state: State) -> None:
    """The attempt leaves its worker; it ended so."""
    if attempt is None:
        # It had been given up; its task waits and now will not run again.
        job.remove_pending(event.index)
        return
    if state not in _ATTEMPT_TRANSITIONS[attempt.state]:
        raise IllegalEvent(event, f"it is {attempt.state.name}")
    del job.active[attempt.index]
    tables.workers[attempt.worker].remove(attempt)
    job_class = attempt.job_class
    if job_class is not job.job_class:
        job_class.strays -= 1
        drop_class(tables, job_class)


def _revive(tables: Tables, event: Any, job: Job) -> tuple[State, EndedAttempt]:
    """Forgets that the attempt was LOST. Returns its task's state and what was known of it."""
    record = job.ended.find(event.index, event.attempt) if job.ended else None
    if job.ended is None or record is None or record.state != State.LOST:
        raise IllegalEvent(event, "no such attempt is under way or lost")
    if not job.is_pending(event.index):
        raise IllegalEvent(event, f"the task is {job.find_task_state(event.index)}")
    job.ended.remove(event.index, event.attempt)
    return State.PENDING, record


def _take_back_loss(job: Job, lost: EndedAttempt) -> None:
    """What runs after all was not lost: a task that survives silences does its workers no harm."""
    losses = job.waits.losses if job.waits is not None else {}
    if lost.start_us and lost.index in losses:
        losses[lost.index] -= 1
        if not losses[lost.index]:
            del losses[lost.index]


def _back_to_pending(
    tables: Tables, job: Job, index: int, attempt: int, before: State, not_before_us: int = 0
) -> None:
    if not_before_us > tables.time_us:
        waits = job.waits_made()
        waits.tasks.add(index)
        waits.not_before[index] = not_before_us
        tables.delayed.add((not_before_us, job.job_id, index))
    else:
        job.put_pending(index)
    job.note_attempts(index, attempt)
    count_tasks(tables, job, before, _PENDING, 1)


def _use_holds(tables: Tables, job: Job, worker: int) -> None:
    """A task of the job was placed: there it needs no hold any more, nor more than it has tasks."""
    kept = [number for number, hold in tables.holds.items() if hold.job_id == job.job_id]
    if worker in kept:
        del tables.holds[worker]
        kept.remove(worker)
    for number in sorted(kept)[job.counts[0] :]:
        del tables.holds[number]


def _note_more(job: Job, event: ev.AttemptEnded, worker: int) -> None:
    """What few ends say: a sentence, or what they cost a task that goes on."""
    if event.detail and job.ended is not None:
        job.ended.note_detail(event.index, event.attempt, event.detail)
    if event.charge:
        _charge(job, event.index, event.charge, worker)


def _charge(job: Job, index: int, charge: int, worker: int) -> None:
    """What its last attempt costs a task that goes on, and where that was."""
    waits = job.waits_made()
    table = waits.retries_used if charge == ev.CHARGE_RETRY else waits.losses
    table[index] = table.get(index, 0) + 1
    waits.failed_on[index] = worker


def _end_task(
    tables: Tables, job: Job, index: int, attempt: int, before: State, becomes: State
) -> None:
    if job.attempts_made is not None or job.waits is not None:
        job.forget_task(index)
    if becomes is State.FAILED and (job.lowest_failed is None or index < job.lowest_failed[0]):
        job.lowest_failed = (index, attempt)
    count_tasks(tables, job, before, becomes, 1)
    max_fails = job.scheduling.max_fails
    if max_fails >= 0 and job.counts[4] > max_fails and not job.cancel_requested:
        tables.overfailed[job.job_id] = None
    if tables.dependents and job.job_id in tables.dependents:
        task_ended(tables, job, index, becomes)


def _begin_waiting(tables: Tables, job: Job) -> None:
    """A new job with wishes of its own: it may have to wait for more than room."""
    scheduling = job.scheduling
    if scheduling.held:
        job.waits_made().held = True
    if scheduling.begin_us > tables.time_us:
        job.waits_made().delayed = True
        tables.delayed.add((scheduling.begin_us, job.job_id, ALL_TASKS))
    if scheduling.deadline_us:
        tables.deadlines.add(deadline_entry(job))
    if scheduling.after:
        await_dependencies(tables, job)
    pending_changed(tables, job)


def _note_start(job: Job, start_us: int) -> None:
    if not job.start_us or start_us < job.start_us:
        job.start_us = start_us
