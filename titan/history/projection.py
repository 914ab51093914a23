"""From events to rows: a state that follows the log, and what changed since the last batch.

The state is the same that the manager has, by the same `apply`: nothing here interprets an event a
second time, it only notes whom it is about. So it takes the memory that a manager does. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from titan import events as ev
from titan.history.rows import (
    Row,
    attempt_row,
    cancel_reason,
    cancelled_row,
    job_row,
    running_row,
    text,
    worker_row,
)
from titan.model import Reason, State, WorkerState
from titan.state.attempts import Attempt, EndedAttempt
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.replay import unknown_record
from titan.state.worker import Worker

AttemptId = tuple[int, int, int]


@dataclass(slots=True)
class Batch:
    """What a transaction writes: rows by their keys, each as it was last."""

    events: int = 0
    jobs: dict[int, Row] = field(default_factory=dict)
    attempts: dict[AttemptId, Row] = field(default_factory=dict)
    revived: set[AttemptId] = field(default_factory=set)
    """Attempts that had ended, by what was known, and go on."""
    cancelled: list[Row] = field(default_factory=list)
    running: dict[AttemptId, Row] = field(default_factory=dict)
    """Attempts that began to run, and run on."""
    stopped: set[AttemptId] = field(default_factory=set)
    """Attempts that were running when an earlier batch was written, and do not any more."""
    workers: dict[int, Row] = field(default_factory=dict)
    worker_events: list[Row] = field(default_factory=list)


class Projection:
    """A state, and the rows that its next batch has."""

    def __init__(self, state: ClusterState) -> None:
        """`state` belongs to it from now on."""
        self.state = state
        self._batch = Batch()
        # Attempts that run by what was written, and those that began since.
        self._running = {key for key, _ in _running(state)}
        self._started: dict[AttemptId, None] = {}
        # In the order in which they changed first.
        self._changed_jobs: dict[int, None] = {}
        self._changed_workers: dict[int, None] = {}

    @property
    def events(self) -> int:
        """How many were applied since the last batch."""
        return self._batch.events

    def apply(self, lsn: int, payload: bytes) -> None:
        """Applies a record. Raises UnknownRecord, IllegalEvent."""
        state = self.state
        try:
            time_us, events = ev.decode_record(payload)
        except ev.EventError as error:
            raise unknown_record(lsn, error, state) from error
        state.begin_record(lsn, time_us)
        handlers, apply, changed = _HANDLERS, state.apply, self._changed_jobs
        for place, event in enumerate(events):
            kind = type(event)
            handler = handlers.get(kind)
            if handler is not None:
                handler(self, event, place)
            else:
                apply(event)
                if kind in _OF_JOBS:
                    changed[event.job_id] = None  # type: ignore[union-attr]  # _OF_JOBS says so
        self._batch.events += len(events)

    def take_batch(self) -> Batch:
        """What changed since the last one."""
        batch, self._batch = self._batch, Batch()
        jobs, workers = self.state.jobs, self.state.workers
        for job_id in self._changed_jobs:
            batch.jobs[job_id] = job_row(jobs[job_id])
        for number in self._changed_workers:
            batch.workers[number] = worker_row(workers[number])
        for key in self._started:
            job_id, index, _ = key
            job = jobs[job_id]
            attempt = job.active[index]
            batch.running[key] = running_row(job, attempt, workers[attempt.worker])
        self._running.update(self._started)
        self._started.clear()
        self._changed_jobs.clear()
        self._changed_workers.clear()
        # They are read once more at most, when they are forgotten.
        jobs.pack_ended(jobs.ended_count)
        return batch

    def _attempt_ended(self, event: ev.AttemptEnded, place: int) -> None:
        ended = EndedAttempt(
            event.index, event.attempt, 0, event.state, event.reason,
            event.signal if event.signal > 0 else 0, event.exit_code, event.start_us,
            event.end_us, event.cpu_user_us, event.cpu_system_us, event.max_rss_bytes,
        )  # fmt: skip
        self._end(event, ended, event.detail)

    def _recalled(self, event: ev.Recalled, place: int) -> None:
        ended = EndedAttempt(
            event.index, event.attempt, 0, State.RECALLED, Reason.NONE, 0, -1, 0,
            self.state.time_us, 0, 0, 0,
        )  # fmt: skip
        self._end(event, ended, "")

    def _end(self, event: ev.AttemptEnded | ev.Recalled, ended: EndedAttempt, detail: str) -> None:
        state = self.state
        job_id, index, number = event.job_id, event.index, event.attempt
        job = state.jobs.live.get(job_id)
        attempt = job.active.get(index) if job is not None else None
        lost = None
        if job is None:
            pass
        elif attempt is None or attempt.attempt != number:
            # It had been given up with its worker, and now ended otherwise.
            attempt = None
            lost = job.ended.find(index, number) if job.ended is not None else None
        before_us = 0
        if number > 1 and job is not None and job.ended is not None:
            before_us = job.ended.find_end_before(index, number)
        state.apply(event)
        # The event was legal, or apply had said so.
        assert job is not None
        if attempt is not None:
            worker, job_class = attempt.worker, attempt.job_class
        else:
            assert lost is not None
            worker, job_class = lost.worker, job.job_class
        key = (job_id, index, number)
        self._batch.attempts[key] = attempt_row(
            job, job_class, state.get_worker(worker), ended, before_us, detail, state.lsn
        )
        if key in self._running:
            self._running.remove(key)
            self._batch.stopped.add(key)
        else:
            # Most begin and end within a batch, and are never written as running.
            self._started.pop(key, None)
        self._changed_jobs[job_id] = None

    def _task_started(self, event: ev.TaskStarted, place: int) -> None:
        self.state.apply(event)
        self._started[event.job_id, event.index, event.attempt] = None
        self._changed_jobs[event.job_id] = None

    def _adopted(self, event: ev.Adopted, place: int) -> None:
        self.state.apply(event)
        key = (event.job_id, event.index, event.attempt)
        self._started[key] = None
        self._batch.attempts.pop(key, None)
        self._batch.revived.add(key)
        self._changed_jobs[event.job_id] = None

    def _waiting_ended(self, event: Any, place: int) -> None:
        state, job_id = self.state, event.job_id
        job = state.jobs.live.get(job_id)
        before = job.counts[_CANCELLED] if job is not None else 0
        state.apply(event)
        # The event was legal, or apply had said so.
        assert job is not None
        # What runs ends later, and with an attempt.
        tasks = job.counts[_CANCELLED] - before
        if tasks:
            row = cancelled_row(
                job, tasks, _END_OF_WAITING[type(event)], state.time_us, state.lsn, place
            )
            self._batch.cancelled.append(row)
        self._changed_jobs[job_id] = None

    def _forgotten(self, event: ev.JobsForgotten, place: int) -> None:
        # What they are is what they were: they ended.
        for job_id in event.job_ids:
            if job_id in self._changed_jobs:
                del self._changed_jobs[job_id]
                self._batch.jobs[job_id] = job_row(self.state.jobs[job_id])
        self.state.apply(event)

    def _worker_event(self, event: Any, place: int) -> None:
        self.state.apply(event)
        worker = self.state.get_worker(event.worker)
        self._changed_workers[event.worker] = None
        row = _worker_event_row(
            self.state, worker, place, WORKER_EVENTS[type(event)],
            getattr(event, "reason", ""), getattr(event, "user", ""),
        )  # fmt: skip
        self._batch.worker_events.append(row)


def all_rows(state: ClusterState) -> Iterator[Batch]:
    """All that a state knows, some jobs and their attempts at a time; the workers first.

    For a beginning in the middle of a log. What it does not know: which record told an end, so that
    this is the state's own; when which of the tasks that were cancelled while they waited was, so
    that it is the job's last end; and what happened to workers before, so that there is what they
    offer now.
    """
    batch = Batch(
        workers={number: worker_row(each) for number, each in state.workers.items()},
        worker_events=[
            _worker_event_row(state, each, -number, FOUND) for number, each in state.workers.items()
        ],
    )
    for key, attempt in _running(state):
        worker = state.get_worker(attempt.worker)
        batch.running[key] = running_row(state.jobs[attempt.job_id], attempt, worker)
    for job_id in state.jobs:
        job = state.jobs[job_id]
        batch.jobs[job_id] = job_row(job)
        if job.cancelled:
            reason = cancel_reason(job)
            batch.cancelled.append(
                cancelled_row(job, len(job.cancelled), reason, job.end_us, state.lsn)
            )
        ends = _ends_of_retried(job)
        for ended in job.ended or ():
            earlier = reversed(ends.get(ended.index, []))
            before_us = next((at_us for number, at_us in earlier if number < ended.attempt), 0)
            detail = job.ended.detail(ended.index, ended.attempt) if job.ended else ""
            worker = state.get_worker(ended.worker)
            batch.attempts[job_id, ended.index, ended.attempt] = attempt_row(
                job, job.job_class, worker, ended, before_us, detail, state.lsn
            )
            if len(batch.attempts) >= ROWS_AT_ONCE:
                yield batch
                batch = Batch()
        if len(batch.jobs) >= ROWS_AT_ONCE:
            yield batch
            batch = Batch()
    yield batch


def _ends_of_retried(job: Job) -> dict[int, list[tuple[int, int]]]:
    """By index the attempts that were not RECALLED and when they ended, in rising order; of tasks
    that were tried more than once."""
    ends: dict[int, list[tuple[int, int]]] = {}
    for ended in job.ended or ():
        if ended.attempt > 1:
            ends[ended.index] = []
    if ends:
        assert job.ended is not None
        for ended in job.ended:
            if ended.index in ends and ended.state != State.RECALLED:
                ends[ended.index].append((ended.attempt, ended.end_us))
    for each in ends.values():
        each.sort()
    return ends


def _worker_event_row(
    state: ClusterState, worker: Worker, place: int, event: str, reason: str = "", user: str = ""
) -> Row:
    return {
        "lsn": state.lsn,
        "place": place,
        "time": state.time_us / 1e6,
        "number": worker.number,
        "worker": text(worker.name),
        "event": event,
        "cpus": 0 if worker.state in _GONE else worker.capacity.cpus_milli / 1000,
        "reason": text(reason),
        "user_name": text(user),
    }


def _running(state: ClusterState) -> Iterator[tuple[AttemptId, Attempt]]:
    for job in state.live_jobs.values():
        for attempt in job.active.values():
            if attempt.state is State.RUNNING:
                yield (job.job_id, attempt.index, attempt.attempt), attempt


ROWS_AT_ONCE: Final = 10_000
_GONE: Final = (WorkerState.DISCONNECTED, WorkerState.DEREGISTERED)

# Where a job counts them.
_CANCELLED: Final = int(State.CANCELLED) - 1

_END_OF_WAITING: Final[dict[type[ev.Event], str]] = {
    ev.CancelRequested: Reason.CANCELLED.name,
    ev.DependencyFailed: Reason.DEPENDENCY_FAILED.name,
    ev.DeadlinePassed: Reason.DEADLINE.name,
}

# Where a history begins in the middle of a log.
FOUND: Final = "FOUND"
WORKER_EVENTS: Final[dict[type[ev.Event], str]] = {
    ev.WorkerRegistered: "REGISTERED",
    ev.WorkerHealthy: "HEALTHY",
    ev.WorkerUnhealthy: "UNHEALTHY",
    ev.WorkerLost: "LOST",
    ev.WorkerDraining: "DRAINING",
    ev.WorkerUndrained: "UNDRAINED",
    ev.WorkerDeregistered: "DEREGISTERED",
}

# Whose rows change by more than that a job is another one.
_HANDLERS: Final[dict[type[ev.Event], Callable[[Projection, Any, int], None]]] = {
    ev.AttemptEnded: Projection._attempt_ended,
    ev.Recalled: Projection._recalled,
    ev.Adopted: Projection._adopted,
    ev.TaskStarted: Projection._task_started,
    ev.JobsForgotten: Projection._forgotten,
    **dict.fromkeys(_END_OF_WAITING, Projection._waiting_ended),
    **dict.fromkeys(WORKER_EVENTS, Projection._worker_event),
}

# Reserved names a job that does not change by it.
_OF_JOBS: Final = frozenset(
    kind
    for kind in ev.CODE_OF_EVENT
    if "job_id" in kind._fields and kind not in (ev.Reserved, *_HANDLERS)
)
