"""The state of the cluster, and `apply`: the only thing that changes it.

Live running and replay go through the same `apply_record`, so a log replays to the
state that the manager had. An event that the state does not allow raises
IllegalEvent, which names the event: it is our bug or a damaged log, never input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sortedcontainers import SortedDict

from titan import events as ev
from titan.model import (
    ATTEMPT_TRANSITIONS,
    TASK_ENDS,
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    Resources,
    State,
    WorkerState,
)
from titan.state.attempts import Attempt, AttemptLog, pack_ended
from titan.state.index_set import IndexSet
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.job_table import JobTable
from titan.state.request_table import Request, RequestTable
from titan.state.worker import Worker

# What `TaskAssigned.rule` says: 1 moves the round-robin pointer, 0 does not.
RULE_ROUND_ROBIN: Final = 1


class IllegalEvent(Exception):
    """The state does not allow this event."""

    def __init__(self, event: object, why: str) -> None:
        super().__init__(f"{event}: {why}")
        self.event = event


class ClusterState:
    """Everything that the log says. Read by everybody, changed by `apply_record` alone."""

    def __init__(self) -> None:
        self.lsn = 0
        self.time_us = 0
        self.cluster_id = b""
        self.epoch = 0
        # The version of Titan that started last on this log.
        self.version = ""
        self.next_job_id = 1
        self.workers: SortedDict[int, Worker] = SortedDict()
        self.worker_numbers: dict[bytes, int] = {}
        self.next_worker = 1
        # The worker of the last round-robin assignment; 0: none yet.
        self.round_robin = 0
        # Those of the remembered jobs, in the order of their numbers.
        self.classes: dict[int, JobClass] = {}
        self.jobs = JobTable(self.classes)
        self._class_ids: dict[tuple[str, int, Resources], int] = {}
        self.next_class = 1
        self.environments: dict[bytes, ev.EnvironmentStored] = {}
        # How many remembered jobs refer to each.
        self.environment_jobs: dict[bytes, int] = {}
        self.requests = RequestTable()
        self.last_job_of: dict[str, int] = {}
        # Tasks by state over the remembered jobs, and jobs by state, in the order of the states.
        self.task_counts = [0] * 6
        self.job_counts = [0] * 6

    def apply_record(self, lsn: int, time_us: int, events: Sequence[ev.Event]) -> None:
        """Applies the record of that number. Raises IllegalEvent."""
        self.begin_record(lsn, time_us)
        handlers = _APPLY
        event = None
        try:
            for event in events:
                handlers[type(event)](self, event)
        except KeyError as error:
            raise IllegalEvent(event, f"there is no {error}") from error

    def begin_record(self, lsn: int, time_us: int) -> None:
        """What follows by `apply` belongs to the record of that number and time."""
        if lsn != self.lsn + 1:
            raise IllegalEvent(None, f"record {lsn} does not follow {self.lsn}")
        if time_us < self.time_us:
            raise IllegalEvent(None, f"record {lsn} is older than the one before")
        self.lsn = lsn
        self.time_us = time_us

    def apply(self, event: ev.Event) -> None:
        """Applies one event of the record begun last. Raises IllegalEvent."""
        try:
            _APPLY[type(event)](self, event)
        except KeyError as error:
            raise IllegalEvent(event, f"there is no {error}") from error

    @property
    def live_jobs(self) -> SortedDict[int, Job]:
        """Those that have not ended, by id."""
        return self.jobs.live

    def get_job(self, job_id: int) -> Job:
        """Raises KeyError."""
        return self.jobs[job_id]

    def is_forgotten(self, job_id: int) -> bool:
        """Whether such a job was, ended, and is remembered by the log alone."""
        return 0 < job_id < self.next_job_id and job_id not in self.jobs

    def get_worker(self, number: int) -> Worker:
        """Raises KeyError."""
        worker: Worker = self.workers[number]
        return worker

    def _cluster_created(self, event: ev.ClusterCreated) -> None:
        _require(event, not self.cluster_id, "the cluster exists")
        self.cluster_id = event.cluster_id

    def _manager_started(self, event: ev.ManagerStarted) -> None:
        _require(event, bool(self.cluster_id), "there is no cluster")
        self.epoch = event.epoch
        self.version = event.version

    def _environment_stored(self, event: ev.EnvironmentStored) -> None:
        self.environments[event.digest] = event
        self.environment_jobs.setdefault(event.digest, 0)

    def _job_submitted(self, event: ev.JobSubmitted) -> None:
        _require(event, event.job_id == self.next_job_id, "job ids count up")
        _require(event, event.environment in self.environments, "its environment is not known")
        self.next_job_id += 1
        demand = Resources(event.cpus_milli, event.memory_bytes, event.named)
        job = Job(
            event,
            epoch=self.epoch,
            submit_lsn=self.lsn,
            submit_us=self.time_us,
            job_class=self._class_of(event.user, event.priority, demand),
        )
        self.jobs.add(job)
        job.job_class.jobs += 1
        self.environment_jobs[job.environment] += 1
        job.job_class.pending_jobs[event.job_id] = None
        job.changed_lsn = self.lsn
        self.last_job_of[event.user] = event.job_id
        self.task_counts[0] += job.counts[0]
        self.job_counts[0] += 1

    def _request_accepted(self, event: ev.RequestAccepted) -> None:
        user, request_id, content, first_job_id, jobs = event
        answered = Request(content, first_job_id, jobs, self.time_us)
        self.requests.add(user, request_id, answered)

    def _cancel_requested(self, event: ev.CancelRequested) -> None:
        job = self._live_job(event)
        if not event.indexes:
            job.cancel_requested = True
        spans = [(each.start, each.stop) for each in event.indexes] or [(0, 1 << 62)]
        for start, stop in spans:
            taken = job.pending.take(start, stop)
            count = sum(len(part) for part in taken)
            if count:
                if job.cancelled is None:
                    job.cancelled = IndexSet()
                job.cancelled.add_ranges(taken)
                self._count(job, State.PENDING, State.CANCELLED, count)
                job.end_us = max(job.end_us, self.time_us)
                for index in [i for i in job.attempts_made or () if start <= i < stop]:
                    if index not in job.active:
                        job.forget_attempts(index)
            for attempt in job.active.values():
                if start <= attempt.index < stop:
                    attempt.cancel_grace_ms = event.grace_ms
        self._pending_changed(job)

    def _task_assigned(self, event: ev.TaskAssigned) -> None:
        job_id, index, number, worker_number, ahead, _, _, rule = event
        job = self.jobs.live.get(job_id) or self._live_job(event)
        worker = self.workers[worker_number]
        made = job.attempts_made
        if number != (1 if made is None else job.next_attempt(index)):
            raise IllegalEvent(event, "attempts count up")
        try:
            job.pending.remove(index)
        except KeyError:
            raise IllegalEvent(event, f"the task is {job.find_task_state(index)}") from None
        if made is not None:
            job.forget_attempts(index)
        attempt = Attempt(job_id, index, number, worker_number, ahead, self.time_us)
        job.active[index] = attempt
        job.attempts_total += 1
        worker.add(attempt, job.job_class)
        if rule == RULE_ROUND_ROBIN:
            self.round_robin = worker_number
        self._count(job, _PENDING, _SCHEDULED, 1)
        self._pending_changed(job)

    def _recall_requested(self, event: ev.RecallRequested) -> None:
        _, attempt = self._active(event)
        _require(event, attempt.ahead, "only what waits ahead can be recalled")
        attempt.recall_requested = True

    def _recalled(self, event: ev.Recalled) -> None:
        job, attempt = self._active(event)
        self._leave(event, job, attempt, State.RECALLED)
        if job.ended is None:
            job.ended = AttemptLog()
        job.ended.data += pack_ended(
            event.index, event.attempt, attempt.worker, State.RECALLED, 0, 0, -1, 0,
            self.time_us, 0, 0, 0,
        )  # fmt: skip
        self._back_to_pending(job, event.index, event.attempt, _SCHEDULED)
        self._pending_changed(job)

    def _task_started(self, event: ev.TaskStarted) -> None:
        job, attempt = self._active(event)
        self._start(event, job, attempt, event.start_us)
        self._changed(job)

    def _attempt_ended(self, event: ev.AttemptEnded) -> None:
        (
            job_id, index, number, state, reason, exit_code, signal, start_us, end_us,
            cpu_user_us, cpu_system_us, max_rss_bytes, detail, task_state_number,
        ) = event  # fmt: skip
        job = self.jobs.live.get(job_id) or self._live_job(event)
        attempt = job.active.get(index)
        if attempt is None or attempt.attempt != number:
            attempt = None
            task_state, worker = self._revive(event, job)
            if start_us:
                self._note_start(job, start_us)
        else:
            if start_us and attempt.state is _SCHEDULED:
                self._start(event, job, attempt, start_us)
            task_state, worker = attempt.state, attempt.worker
        becomes = _STATES[task_state_number]
        if becomes not in _TASK_TRANSITIONS[task_state]:
            raise IllegalEvent(event, f"the task is {task_state.name}")
        self._leave(event, job, attempt, _STATES[state])
        if job.ended is None:
            job.ended = AttemptLog()
        job.ended.data += pack_ended(
            index, number, worker, state, reason, signal if signal > 0 else 0, exit_code,
            start_us, end_us, cpu_user_us, cpu_system_us, max_rss_bytes,
        )  # fmt: skip
        if detail:
            job.ended.note_detail(index, number, detail)
        if becomes is _PENDING:
            self._back_to_pending(job, index, number, task_state)
        else:
            self._end_task(job, index, number, task_state, becomes, end_us)
        if start_us and state == _COMPLETED:
            # The clock of a worker may step back meanwhile.
            job.job_class.learn_run(end_us - start_us if end_us > start_us else 0)
        if attempt is None or becomes is _PENDING:
            self._pending_changed(job)
        else:
            self._changed(job)

    def _adopted(self, event: ev.Adopted) -> None:
        job = self._live_job(event)
        task_state, number = self._revive(event, job)
        attempt = Attempt(event.job_id, event.index, event.attempt, number, False, self.time_us)
        attempt.state = State.RUNNING
        attempt.start_us = event.start_us
        job.active[event.index] = attempt
        # The number of the next attempt does not go back with it.
        job.note_attempts(event.index, job.next_attempt(event.index) - 1)
        self.get_worker(number).add(attempt, job.job_class)
        job.pending.remove(event.index)
        self._note_start(job, event.start_us)
        self._count(job, task_state, State.RUNNING, 1)
        self._pending_changed(job)

    def _worker_registered(self, event: ev.WorkerRegistered) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            _require(event, event.worker == self.next_worker, "worker numbers count up")
            _require(event, event.worker_id not in self.worker_numbers, "the worker has a number")
            self.next_worker += 1
            worker = self.workers[event.worker] = Worker(event)
            self.worker_numbers[event.worker_id] = event.worker
        else:
            worker.register(event)
            self._set_worker_state(event, WorkerState.HEALTHY)
        worker.last_heard_us = self.time_us

    def _worker_heartbeats(self, event: ev.WorkerHeartbeats) -> None:
        for number in event.workers:
            self.get_worker(number).last_heard_us = self.time_us

    def _worker_healthy(self, event: ev.WorkerHealthy) -> None:
        self._set_worker_state(event, WorkerState.HEALTHY)

    def _worker_unhealthy(self, event: ev.WorkerUnhealthy) -> None:
        self._set_worker_state(event, WorkerState.UNHEALTHY)

    def _worker_lost(self, event: ev.WorkerLost) -> None:
        _require(event, not self.get_worker(event.worker).attempts, "it still holds attempts")
        self._set_worker_state(event, WorkerState.DISCONNECTED)

    def _worker_deregistered(self, event: ev.WorkerDeregistered) -> None:
        _require(event, not self.get_worker(event.worker).attempts, "it still holds attempts")
        self._set_worker_state(event, WorkerState.DEREGISTERED)

    def _jobs_forgotten(self, event: ev.JobsForgotten) -> None:
        for job_id in event.job_ids:
            job = self.jobs.forget(job_id)
            self.job_counts[job.state - 1] -= 1
            for position, count in enumerate(job.counts):
                self.task_counts[position] -= count
            left = self.environment_jobs[job.environment] - 1
            self.environment_jobs[job.environment] = left
            if not left:
                del self.environment_jobs[job.environment]
                del self.environments[job.environment]
            job_class = job.job_class
            job_class.jobs -= 1
            if not job_class.jobs:
                del self.classes[job_class.class_id]
                del self._class_ids[job_class.user, job_class.priority, job_class.demand]

    def _set_worker_state(self, event: Any, state: WorkerState) -> None:
        worker = self.get_worker(event.worker)
        if worker.state is not state:
            _require(event, state in WORKER_TRANSITIONS[worker.state], f"it is {worker.state.name}")
            worker.state = state

    def add_class(self, job_class: JobClass) -> None:
        """A class that has its number already."""
        self.classes[job_class.class_id] = job_class
        key = (job_class.user, job_class.priority, job_class.demand)
        self._class_ids[key] = job_class.class_id

    def _class_of(self, user: str, priority: int, demand: Resources) -> JobClass:
        key = (user, priority, demand)
        class_id = self._class_ids.get(key)
        if class_id is None:
            class_id = self.next_class
            self.next_class += 1
            self.add_class(JobClass(class_id, user, priority, demand))
        return self.classes[class_id]

    def _live_job(self, event: Any) -> Job:
        """The job of the event. One that ended does not change any more."""
        job: Job | None = self.jobs.live.get(event.job_id)
        if job is None:
            why = "the job has ended" if event.job_id in self.jobs else "there is no such job"
            raise IllegalEvent(event, why)
        return job

    def _active(self, event: Any) -> tuple[Job, Attempt]:
        job = self._live_job(event)
        attempt = job.active.get(event.index)
        if attempt is None or attempt.attempt != event.attempt:
            raise IllegalEvent(event, "no such attempt is under way")
        return job, attempt

    def _start(self, event: ev.Event, job: Job, attempt: Attempt, start_us: int) -> None:
        if _RUNNING not in _ATTEMPT_TRANSITIONS[attempt.state]:
            raise IllegalEvent(event, f"it is {attempt.state.name}")
        self.workers[attempt.worker].start(attempt, job.job_class)
        attempt.state = _RUNNING
        attempt.start_us = start_us
        self._note_start(job, start_us)
        self._count(job, _SCHEDULED, _RUNNING, 1)

    def _leave(self, event: Any, job: Job, attempt: Attempt | None, state: State) -> None:
        """The attempt leaves its worker; it ended so."""
        if attempt is None:
            # It had been given up; its task waits and now will not run again.
            job.pending.remove(event.index)
            return
        if state not in _ATTEMPT_TRANSITIONS[attempt.state]:
            raise IllegalEvent(event, f"it is {attempt.state.name}")
        del job.active[attempt.index]
        self.workers[attempt.worker].remove(attempt, job.job_class)

    def _revive(self, event: Any, job: Job) -> tuple[State, int]:
        """Forgets that the attempt was LOST. Returns its task's state and its worker's number."""
        record = job.ended.find(event.index, event.attempt) if job.ended else None
        if job.ended is None or record is None or record.state != State.LOST:
            raise IllegalEvent(event, "no such attempt is under way or lost")
        if event.index not in job.pending:
            raise IllegalEvent(event, f"the task is {job.find_task_state(event.index)}")
        job.ended.remove(event.index, event.attempt)
        return State.PENDING, record.worker

    def _back_to_pending(self, job: Job, index: int, attempt: int, before: State) -> None:
        job.pending.add(index)
        job.note_attempts(index, attempt)
        self._count(job, before, _PENDING, 1)

    def _end_task(
        self, job: Job, index: int, attempt: int, before: State, becomes: State, end_us: int
    ) -> None:
        if job.attempts_made is not None:
            job.forget_attempts(index)
        job.end_us = max(job.end_us, end_us)
        if becomes is State.FAILED and (job.lowest_failed is None or index < job.lowest_failed[0]):
            job.lowest_failed = (index, attempt)
        self._count(job, before, becomes, 1)

    @staticmethod
    def _note_start(job: Job, start_us: int) -> None:
        if not job.start_us or start_us < job.start_us:
            job.start_us = start_us

    def _count(self, job: Job, before: State, after: State, tasks: int) -> None:
        source, target = before - 1, after - 1
        counts, all_counts = job.counts, self.task_counts
        counts[source] -= tasks
        counts[target] += tasks
        all_counts[source] -= tasks
        all_counts[target] += tasks

    def _changed(self, job: Job) -> None:
        """Keeps the indexes over jobs right after a change of one."""
        job.changed_lsn = self.lsn
        before = job.known_state
        # Most changes are those of an array that runs.
        after = before if before is _RUNNING and job.counts[2] else job.state
        if after is not before:
            job.known_state = after
            self.job_counts[before - 1] -= 1
            self.job_counts[after - 1] += 1
            if after in TASK_ENDS:
                job.ended_us = self.time_us
                self.jobs.end(job)

    def _pending_changed(self, job: Job) -> None:
        """The same, where it may have its first or last pending task."""
        self._changed(job)
        pending_jobs = job.job_class.pending_jobs
        if job.counts[0]:
            if job.job_id not in pending_jobs:
                pending_jobs[job.job_id] = None
        elif job.job_id in pending_jobs:
            del pending_jobs[job.job_id]


# A million tasks go through these few lines at a replay. Calling an enum costs ten times a look-up,
# and its hash, which a dict asks for, is a Python function: tables by number it is.
_STATES: Final = tuple(State(each) if each else State.PENDING for each in range(len(State) + 1))
_TASK_TRANSITIONS: Final = tuple(TASK_TRANSITIONS.get(each, ()) for each in _STATES)
_ATTEMPT_TRANSITIONS: Final = tuple(ATTEMPT_TRANSITIONS.get(each, ()) for each in _STATES)
_PENDING, _SCHEDULED, _RUNNING = State.PENDING, State.SCHEDULED, State.RUNNING
_COMPLETED: Final = State.COMPLETED


def _require(event: object, holds: bool, why: str) -> None:
    if not holds:
        raise IllegalEvent(event, why)


_APPLY: Final[dict[type[ev.Event], Callable[[ClusterState, Any], None]]] = {
    ev.ClusterCreated: ClusterState._cluster_created,
    ev.ManagerStarted: ClusterState._manager_started,
    ev.EnvironmentStored: ClusterState._environment_stored,
    ev.JobSubmitted: ClusterState._job_submitted,
    ev.RequestAccepted: ClusterState._request_accepted,
    ev.CancelRequested: ClusterState._cancel_requested,
    ev.TaskAssigned: ClusterState._task_assigned,
    ev.RecallRequested: ClusterState._recall_requested,
    ev.Recalled: ClusterState._recalled,
    ev.TaskStarted: ClusterState._task_started,
    ev.AttemptEnded: ClusterState._attempt_ended,
    ev.Adopted: ClusterState._adopted,
    ev.WorkerRegistered: ClusterState._worker_registered,
    ev.WorkerHeartbeats: ClusterState._worker_heartbeats,
    ev.WorkerHealthy: ClusterState._worker_healthy,
    ev.WorkerUnhealthy: ClusterState._worker_unhealthy,
    ev.WorkerLost: ClusterState._worker_lost,
    ev.WorkerDeregistered: ClusterState._worker_deregistered,
    ev.JobsForgotten: ClusterState._jobs_forgotten,
}
