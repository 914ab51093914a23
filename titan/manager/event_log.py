"""What happens in the cluster as lines of the manager's own log, one for each event.

They follow from the events alone, here and nowhere else, once these are durable: no line tells of
anything that a crash undoes. What happens to workers, and the policy, is told at info; jobs and
tasks, of which there may be thousands a second, at debug, and cost nothing where that is off. Of
environments, scripts and commands nothing is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from titan import events as ev
from titan.logs import LogLine
from titan.manager.shell import Shell
from titan.model import Reason, State
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS

_log = logging.getLogger("titan.events")

AttemptName = tuple[int, int, int]
"""Job, index, attempt."""
Told = tuple[int, LogLine]
"""A level and what is said at it."""


class EventLog:
    """Tells of each record that a shell appends, when it is durable."""

    def __init__(self, shell: Shell) -> None:
        """From now on; it is to be run."""
        self._shell = shell
        self._state = shell.kernel.state
        # By LSN, rising.
        self._waiting: deque[tuple[int, list[Told]]] = deque()
        self._has_more = asyncio.Event()
        # Where attempts under way are, by worker number: the event of an end does not say it.
        self._places: dict[AttemptName, int] = {}
        self._tells = _OF_WORKERS
        if _log.isEnabledFor(logging.DEBUG):
            self._tells = _OF_WORKERS | _OF_JOBS
            for number, worker in self._state.workers.items():
                for attempt in worker.attempts.values():
                    self._places[attempt.job_id, attempt.index, attempt.attempt] = number
        shell.listen_to_records(self._note)

    async def run(self) -> None:
        """Tells until it is cancelled, and of what is durable then."""
        try:
            while True:
                await self._has_more.wait()
                self._has_more.clear()
                while self._waiting:
                    # Also where the manager leads no more: what is durable happened.
                    await self._shell.journal.wait_durable(self._waiting[0][0])
                    self._tell()
        finally:
            while self._waiting and self._waiting[0][0] <= self._shell.journal.durable_lsn:
                self._tell()

    def worker_name(self, number: int) -> str:
        """Of any worker that there ever was."""
        return self._state.get_worker(number).name

    def place_of(self, event: Any) -> str | None:
        """The worker of the event's attempt, None where nobody knows it any more."""
        number = self._places.get((event.job_id, event.index, event.attempt))
        return None if number is None else self.worker_name(number)

    def place(self, event: ev.TaskAssigned) -> None:
        """The attempt is there from now on."""
        self._places[event.job_id, event.index, event.attempt] = event.worker

    def place_again(self, event: ev.Adopted) -> None:
        """An attempt that was given up is under way after all, if it did not end meanwhile."""
        job = self._state.jobs.get(event.job_id)
        attempt = job.active.get(event.index) if job is not None else None
        if attempt is not None and attempt.attempt == event.attempt:
            self._places[event.job_id, event.index, event.attempt] = attempt.worker

    def take(self, event: ev.AttemptEnded | ev.Recalled) -> None:
        """The attempt is nowhere any more."""
        self._places.pop((event.job_id, event.index, event.attempt), None)

    def _note(self, lsn: int, events: Sequence[ev.Event]) -> None:
        tells = self._tells
        told: list[Told] = []
        for event in events:
            tell = tells.get(type(event))
            if tell is not None:
                level, line = tell(self, event)
                line.fields["lsn"] = lsn
                told.append((level, line))
        if told:
            self._waiting.append((lsn, told))
            self._has_more.set()

    def _tell(self) -> None:
        _, told = self._waiting.popleft()
        for level, line in told:
            _log.log(level, line)


Teller = Callable[[EventLog, Any], Told]


def _of_worker(level: int, message: str, *names: str) -> Teller:
    """Of one worker, with these fields of the event."""

    def tell(log: EventLog, event: Any) -> Told:
        fields = {name: getattr(event, name) or None for name in names}
        return level, LogLine(message, worker=log.worker_name(event.worker), **fields)

    return tell


def _of_job(message: str, *names: str) -> Teller:
    """Of one job, with these fields of the event."""

    def tell(_: EventLog, event: Any) -> Told:
        fields = {name: getattr(event, name) or None for name in names}
        return logging.DEBUG, LogLine(message, job=event.job_id, **fields)

    return tell


def _of_attempt(message: str, *names: str) -> Teller:
    """Of one attempt, with these fields of the event."""

    def tell(log: EventLog, event: Any) -> Told:
        fields = {name: getattr(event, name) or None for name in names}
        return logging.DEBUG, _attempt_line(message, log, event, **fields)

    return tell


def _attempt_line(message: str, log: EventLog, event: Any, **fields: object) -> LogLine:
    return LogLine(
        message,
        job=event.job_id,
        task=event.index,
        attempt=event.attempt,
        worker=log.place_of(event),
        **fields,
    )


def _submitted(_: EventLog, event: ev.JobSubmitted) -> Told:
    tasks = sum(len(each.indexes) for each in event.array) if event.array else 1
    return logging.DEBUG, LogLine(
        "job submitted", job=event.job_id, name=event.name, user=event.user, tasks=tasks
    )


def _assigned(log: EventLog, event: ev.TaskAssigned) -> Told:
    log.place(event)
    return logging.DEBUG, _attempt_line("task assigned", log, event, ahead=event.ahead or None)


def _adopted(log: EventLog, event: ev.Adopted) -> Told:
    log.place_again(event)
    return logging.DEBUG, _attempt_line("task adopted", log, event)


def _recalled(log: EventLog, event: ev.Recalled) -> Told:
    line = _attempt_line("task recalled", log, event)
    log.take(event)
    return logging.DEBUG, line


def _ended(log: EventLog, event: ev.AttemptEnded) -> Told:
    line = _attempt_line(
        "task ended",
        log,
        event,
        state=State(event.state).name,
        reason=Reason(event.reason).name if event.reason else None,
        exit_code=event.exit_code if event.exit_code >= 0 else None,
        signal=event.signal if event.signal >= 0 else None,
        seconds=round((event.end_us - event.start_us) / 1e6, 3) if event.start_us else None,
        # What the task is by it, if it is not over with the attempt.
        task_state=State(event.task_state).name if event.task_state != event.state else None,
    )
    log.take(event)
    return logging.DEBUG, line


def _forgotten(_: EventLog, event: ev.JobsForgotten) -> Told:
    return logging.DEBUG, LogLine("jobs forgotten", jobs=len(event.job_ids))


def _policy_set(_: EventLog, event: ev.PolicySet) -> Told:
    return logging.INFO, LogLine(
        "policy set",
        user=event.user,
        policy=PLACEMENTS[event.placement - 1],
        order=ORDERS[event.order - 1],
        fair_share=event.fair_share,
        preempt=PREEMPTIONS[event.preempt - 1],
    )


_OF_WORKERS: Final[dict[type[ev.Event], Teller]] = {
    ev.WorkerRegistered: _of_worker(logging.INFO, "worker registered", "address"),
    ev.WorkerHealthy: _of_worker(logging.INFO, "worker healthy"),
    ev.WorkerUnhealthy: _of_worker(logging.WARNING, "worker unhealthy", "reason"),
    ev.WorkerLost: _of_worker(logging.WARNING, "worker lost"),
    ev.WorkerDraining: _of_worker(logging.INFO, "worker draining", "reason", "user", "stopping"),
    ev.WorkerUndrained: _of_worker(logging.INFO, "worker undrained", "user", "stopping"),
    ev.WorkerDeregistered: _of_worker(logging.INFO, "worker deregistered"),
    ev.PolicySet: _policy_set,
}
_OF_JOBS: Final[dict[type[ev.Event], Teller]] = {
    ev.JobSubmitted: _submitted,
    ev.CancelRequested: _of_job("cancel requested", "user"),
    ev.DependencyFailed: _of_job("dependency failed", "dependency"),
    ev.DeadlinePassed: _of_job("deadline passed"),
    ev.JobHeld: _of_job("job held", "user"),
    ev.JobReleased: _of_job("job released", "user"),
    ev.JobUpdated: _of_job("job updated", "user"),
    ev.JobSuspended: _of_job("job suspended", "user"),
    ev.JobResumed: _of_job("job resumed", "user"),
    ev.JobsForgotten: _forgotten,
    ev.TaskAssigned: _assigned,
    ev.TaskStarted: _of_attempt("task started"),
    ev.RecallRequested: _of_attempt("recall requested", "user"),
    ev.Recalled: _recalled,
    ev.Adopted: _adopted,
    ev.AttemptEnded: _ended,
    ev.AttemptSuspended: _of_attempt("task suspended", "for_job"),
    ev.AttemptResumed: _of_attempt("task resumed"),
    ev.Preempted: _of_attempt("task preempted", "for_job", "user"),
}
# The clock's and the manager's own, and what an environment is.
SILENT: Final[frozenset[type[ev.Event]]] = frozenset(
    {
        *(ev.ClusterCreated, ev.ManagerStarted, ev.EnvironmentStored, ev.RequestAccepted),
        *(ev.WorkerHeartbeats, ev.DelaysPassed, ev.Reserved, ev.ReservationLifted),
    }
)
assert not _OF_WORKERS.keys() & _OF_JOBS.keys()
assert {*_OF_WORKERS, *_OF_JOBS, *SILENT} == set(ev.CODE_OF_EVENT)
