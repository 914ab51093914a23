"""What the log tells of tasks and attempts, by rules of its own: dicts, and no code of Titan's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tools.chaos.evidence import Event, Key

Task = tuple[int, int]

TASK_ENDS: Final = ("COMPLETED", "FAILED", "CANCELLED")
ANY_TASK: Final = -1
"""As the index of a dependency: all of the job's tasks."""


class Violation(NamedTuple):
    """Something that must not be."""

    kind: str
    job_id: int
    """0: it is no job's."""
    sentence: str


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try, from its assignment."""

    worker: str
    worker_number: int
    assigned_lsn: int
    state: str = "SCHEDULED"
    reason: str = ""
    exit_code: int = -1
    losses: list[int] = field(default_factory=list)
    """The records in which it was given up; it may have been adopted since."""


@dataclass(slots=True, kw_only=True)
class TaskEnd:
    """What became of a task."""

    state: str
    reason: str
    lsn: int
    attempt: int = 0
    """Whose end it was; 0: it was waiting."""


@dataclass(slots=True, kw_only=True)
class Job:
    """What was submitted."""

    lsn: int
    indexes: range | list[int]
    after: list[Event] = field(default_factory=list)
    is_cancel_requested: bool = False


class Contact(NamedTuple):
    """A worker was heard of."""

    lsn: int
    time: float


class History:
    """A whole log. What breaks a rule as it goes stands in `violations`."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.violations: list[Violation] = []
        self.jobs: dict[int, Job] = {}
        self.requests: dict[str, list[int]] = {}
        self.attempts: dict[Key, Attempt] = {}
        self.active: dict[Task, int] = {}
        self.ends: dict[Task, TaskEnd] = {}
        self.contacts: dict[int, list[Contact]] = defaultdict(list)
        self.losses: dict[int, list[Contact]] = defaultdict(list)
        self.starts = 0
        self._names: dict[int, str] = {}
        rules: dict[str, Callable[[Event], None]] = {
            "ManagerStarted": self._manager_started,
            "JobSubmitted": self._submitted,
            "RequestAccepted": self._accepted,
            "CancelRequested": self._cancel_requested,
            "DependencyFailed": self._dependency_failed,
            "TaskAssigned": self._assigned,
            "TaskStarted": self._started,
            "Recalled": self._recalled,
            "AttemptEnded": self._attempt_ended,
            "Adopted": self._adopted,
            "WorkerRegistered": self._registered,
            "WorkerHealthy": self._healthy,
            "WorkerLost": self._worker_lost,
        }
        for event in events:
            rule = rules.get(event["event"])
            if rule is not None:
                rule(event)

    def tasks_of(self, job_id: int) -> list[Task]:
        """All tasks of a job."""
        return [(job_id, index) for index in self.jobs[job_id].indexes]

    def was_lost_with_worker(self, attempt: Attempt) -> bool:
        """Whether it was once given up because its worker was silent, in the same record."""
        silences = self.losses.get(attempt.worker_number, ())
        return any(each.lsn in attempt.losses for each in silences)

    def _breaks(self, event: Event, what: str, kind: str = "doubled") -> None:
        name = f"{event['job_id']}.{event['index']}" if "index" in event else event.get("job_id")
        sentence = f"record {event['lsn']}: {event['event']} of {name}, attempt "
        sentence += f"{event.get('attempt', '-')}: {what}"
        self.violations.append(Violation(kind, event.get("job_id", 0), sentence))

    def _manager_started(self, event: Event) -> None:
        self.starts += 1

    def _submitted(self, event: Event) -> None:
        indexes = [index for part in event["array"] for index in range(*part)] or [0]
        job = Job(lsn=event["lsn"], indexes=indexes, after=event["scheduling"].get("after", []))
        if event["job_id"] in self.jobs:
            self._breaks(event, "there is a job of that number")
        self.jobs[event["job_id"]] = job

    def _accepted(self, event: Event) -> None:
        request_id, first = event["request_id"], event["first_job_id"]
        job_ids = [*range(first, first + event["jobs"])]
        if request_id in self.requests:
            sentence = f"request {request_id} made jobs {self.requests[request_id]}, then {job_ids}"
            self.violations.append(Violation("doubled", first, sentence))
        self.requests[request_id] = job_ids

    def _cancel_requested(self, event: Event) -> None:
        self.jobs[event["job_id"]].is_cancel_requested = True
        self._end_waiting(event, "CANCELLED")

    def _dependency_failed(self, event: Event) -> None:
        self._end_waiting(event, "DEPENDENCY_FAILED")

    def _end_waiting(self, event: Event, reason: str) -> None:
        wanted = {index for part in event["indexes"] for index in range(*part)}
        for task in self.tasks_of(event["job_id"]):
            is_meant = not wanted or task[1] in wanted
            if is_meant and task not in self.active and task not in self.ends:
                self.ends[task] = TaskEnd(state="CANCELLED", reason=reason, lsn=event["lsn"])

    def _assigned(self, event: Event) -> None:
        task, key = _names(event)
        if task in self.active:
            self._breaks(event, f"attempt {self.active[task]} is under way")
        if task in self.ends:
            self._breaks(event, f"the task is {self.ends[task].state} already")
        if key in self.attempts:
            self._breaks(event, "there was an attempt of that number")
        self._check_dependencies(event)
        self.active[task] = event["attempt"]
        self.attempts[key] = Attempt(
            worker=self._names.get(event["worker"], f"worker {event['worker']}"),
            worker_number=event["worker"],
            assigned_lsn=event["lsn"],
        )

    def _check_dependencies(self, event: Event) -> None:
        for each in self.jobs[event["job_id"]].after:
            ends = [self.ends.get(task) for task in self.tasks_of(each["job_id"])]
            if each["index"] != ANY_TASK or each["condition"] not in ("OK", "ANY"):
                self._breaks(event, f"nothing is known here of waiting as in {each}", "wrong")
            elif not all(ends):
                self._breaks(event, f"it waits for job {each['job_id']}, which runs", "wrong")
            elif each["condition"] == "OK" and any(
                end and end.state != "COMPLETED" for end in ends
            ):
                self._breaks(event, f"it waits for job {each['job_id']}, which failed", "wrong")

    def _started(self, event: Event) -> None:
        task, key = _names(event)
        if self.active.get(task) != event["attempt"]:
            self._breaks(event, "it is not under way")
        else:
            self.attempts[key].state = "RUNNING"

    def _recalled(self, event: Event) -> None:
        task, key = _names(event)
        attempt = self._end_active(event, task, key)
        if attempt is not None:
            attempt.state = "RECALLED"

    def _attempt_ended(self, event: Event) -> None:
        task, key = _names(event)
        if task in self.ends:
            self._breaks(event, f"the task is {self.ends[task].state} already")
        attempt = self.attempts.get(key)
        counts_late = (
            attempt is not None
            and attempt.state == "LOST"
            and task not in self.active
            and event["task_state"] in TASK_ENDS
        )
        if not counts_late:
            attempt = self._end_active(event, task, key)
        if attempt is None:
            return
        attempt.state, attempt.reason = event["state"], event["reason"]
        attempt.exit_code = event["exit_code"]
        if event["reason"] == "WORKER_LOST":
            attempt.losses.append(event["lsn"])
        if event["task_state"] in TASK_ENDS:
            self.ends[task] = TaskEnd(
                state=event["task_state"],
                reason=event["reason"],
                lsn=event["lsn"],
                attempt=event["attempt"],
            )

    def _end_active(self, event: Event, task: Task, key: Key) -> Attempt | None:
        if self.active.get(task) != event["attempt"]:
            self._breaks(event, f"under way is {self.active.get(task, 'none')}")
            return None
        del self.active[task]
        return self.attempts[key]

    def _adopted(self, event: Event) -> None:
        task, key = _names(event)
        attempt = self.attempts.get(key)
        if attempt is None or attempt.state != "LOST" or task in self.active or task in self.ends:
            self._breaks(event, "it was not given up, or its task does not wait")
            return
        attempt.state, attempt.reason = "RUNNING", ""
        self.active[task] = event["attempt"]

    def _registered(self, event: Event) -> None:
        self._names[event["worker"]] = event["name"]
        self._healthy(event)

    def _healthy(self, event: Event) -> None:
        self.contacts[event["worker"]].append(Contact(event["lsn"], event["time"]))

    def _worker_lost(self, event: Event) -> None:
        self.losses[event["worker"]].append(Contact(event["lsn"], event["time"]))


def _names(event: Event) -> tuple[Task, Key]:
    task = (event["job_id"], event["index"])
    return task, (*task, event["attempt"])
