"""What scheduling promises beside resources, seen from outside: a part of the witness.

* No task is assigned while its job is held or suspended, before its begin, too late for its
  deadline, beyond the job's array limit, once more tasks failed than may, to a worker without
  the label, or beside a task that is to be alone.
* What it waits for has happened by then, as that really ended.
* A task that fails is tried again as often as its job has it, and no more often.
* Only what is preemptible is preempted, and only for a job of higher priority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tests.simulation.plan import JobPlan, Plan
from tests.simulation.world import World, check
from titan import events as ev
from titan.model import Reason, State
from titan.scheduling import SAME_INDEX, WHOLE_JOB, Dependency, DependencyCondition
from titan.state.cluster import ClusterState
from titan.state.job import Job

_BY_ITSELF: Final = (Reason.EXIT, Reason.TIMEOUT, Reason.LAUNCH_ERROR)
_COUNTED: Final = (
    ev.JobHeld, ev.JobReleased, ev.JobSuspended, ev.JobResumed, ev.AttemptResumed, ev.JobUpdated,
    ev.DependencyFailed, ev.DeadlinePassed, ev.DelaysPassed, ev.Reserved, ev.ReservationLifted,
)  # fmt: skip
FindEnd = Callable[[int, int], State | None]


class Promises:
    """Examines each event before it is applied to the state."""

    def __init__(self, world: World, plan: Plan, find_end: FindEnd) -> None:
        """`find_end` tells how a task has ended, None while it has not."""
        self._world = world
        self._plan = plan
        self._find_end = find_end
        # Of each job its tasks, and all time limits that it had.
        self._tasks: dict[int, list[int]] = {}
        self._limits: dict[int, set[int]] = {}
        # In which records each task was charged with a retry.
        self._retries: dict[tuple[int, int], list[int]] = {}

    def rewind(self, lsn: int) -> None:
        """What came after that record never happened."""
        for key, charged in self._retries.items():
            self._retries[key] = [each for each in charged if each <= lsn]

    def plan_of(self, name: str) -> JobPlan:
        """The plan of the job of that name."""
        return self._plan.jobs[int(name.removeprefix("job"))]

    def tasks_of(self, job_id: int) -> list[int]:
        """The indexes of its tasks."""
        return self._tasks[job_id]

    def limits_ms(self, job_id: int) -> set[int]:
        """All that its time limit ever was."""
        return self._limits[job_id]

    def failed(self, job_id: int) -> int:
        """How many of its tasks have failed."""
        ends = [self._find_end(job_id, index) for index in self._tasks[job_id]]
        return ends.count(State.FAILED)

    def is_overfailed(self, job: Job) -> bool:
        """Whether more of its tasks failed than may."""
        most = self.plan_of(job.name).scheduling.max_fails
        return most is not None and self.failed(job.job_id) > most

    def examine(self, lsn: int, event: ev.Event, state: ClusterState, now_us: int) -> None:
        """Before it is applied. It was decided by `now_us`, perhaps later than its record began."""
        match event:
            case ev.JobSubmitted():
                self._examine_submit(event)
            case ev.JobUpdated():
                self._limits[event.job_id].add(event.time_limit_ms)
            case ev.TaskAssigned():
                self._examine_assignment(event, state, now_us)
            case ev.AttemptEnded():
                self._examine_end(lsn, event, state)
            case ev.DeadlinePassed():
                deadline_us = state.get_job(event.job_id).scheduling.deadline_us
                is_right = 0 < deadline_us <= now_us if event.is_over else deadline_us > 0
                check(is_right, f"{event}: its deadline is {deadline_us}")
            case ev.Preempted() | ev.AttemptSuspended():
                kind = type(event).__name__
                self._world.count(f"{kind} for another" if event.for_job else kind)
                if event.for_job:
                    self._examine_victim(event, state)
            case _:
                pass
        if isinstance(event, _COUNTED):
            self._world.count(type(event).__name__)

    def _examine_submit(self, event: ev.JobSubmitted) -> None:
        self._tasks[event.job_id] = [i for r in event.array for i in r.indexes] or [0]
        self._limits[event.job_id] = {event.time_limit_ms}
        wanted, given = self.plan_of(event.name).scheduling, event.scheduling
        check(
            (given.retries, given.array_limit, given.exclusive, given.preemptible)
            == (wanted.retries, wanted.array_limit, wanted.is_exclusive, wanted.is_preemptible)
            and given.at_most_once == wanted.at_most_once,
            f"job {event.job_id} was submitted with {given}, wanted was {wanted}",
        )

    def _examine_assignment(self, event: ev.TaskAssigned, state: ClusterState, now_us: int) -> None:
        job, worker = state.get_job(event.job_id), state.get_worker(event.worker)
        wanted, given = self.plan_of(job.name).scheduling, job.scheduling
        name = f"{event.job_id}.{event.index}"
        check(not (job.is_held or job.is_suspended), f"{name} starts and is to wait")
        check(given.begin_us <= now_us, f"{name} starts before its time")
        end_us = state.time_us + job.time_limit_ms * 1000
        check(not given.deadline_us or end_us <= given.deadline_us, f"{name} starts too late")
        limit = wanted.array_limit
        check(not limit or len(job.active) < limit, f"{name} starts beyond the limit of {limit}")
        check(not self.is_overfailed(job), f"{name} starts, and too many have failed")
        zone = self._plan.workers[int(worker.name[6:])].zone
        check(wanted.zone in ("", zone), f"{name} starts in zone {zone}")
        if wanted.is_exclusive:
            check(not worker.attempts, f"{name} is to be alone on {worker.name}")
            self._world.count("alone")
        alone = [
            job_id for job_id, _ in worker.attempts if state.get_job(job_id).job_class.exclusive
        ]
        check(not alone, f"{name} starts on {worker.name}, where {alone} are alone")
        for each in given.after:
            index = event.index if each.index == SAME_INDEX else each.index
            check(self._has_happened(each, index), f"{name} starts before {each}")
            self._world.count("started after another")

    def _has_happened(self, dependency: Dependency, index: int) -> bool:
        indexes: Iterable[int] = self._tasks[dependency.job_id] if index == WHOLE_JOB else [index]
        ends = [self._find_end(dependency.job_id, each) for each in indexes]
        if None in ends:
            return False
        if dependency.condition is DependencyCondition.OK:
            return all(each is State.COMPLETED for each in ends)
        return dependency.condition is DependencyCondition.ANY or State.FAILED in ends

    def _examine_end(self, lsn: int, event: ev.AttemptEnded, state: ClusterState) -> None:
        job = state.get_job(event.job_id)
        wanted = self.plan_of(job.name).scheduling
        name = f"{event.job_id}.{event.index}"
        charged = self._retries.setdefault((event.job_id, event.index), [])
        if event.charge == ev.CHARGE_RETRY:
            charged.append(lsn)
            self._world.count("tried again")
            check(event.task_state == State.PENDING, f"{name} is tried again: {event}")
            check(event.not_before_us > state.time_us, f"{name} is tried again at once")
            check(len(charged) <= wanted.retries, f"{name} is tried again too often")
        elif event.task_state == State.FAILED and event.reason in _BY_ITSELF:
            counts = not wanted.retry_on or (
                event.reason == Reason.EXIT and event.exit_code in wanted.retry_on
            )
            is_right = len(charged) == wanted.retries or not counts
            check(is_right, f"{name} failed after {len(charged)} of {wanted.retries} retries")

    def _examine_victim(
        self, event: ev.Preempted | ev.AttemptSuspended, state: ClusterState
    ) -> None:
        victim, other = state.get_job(event.job_id), state.get_job(event.for_job)
        check(self.plan_of(victim.name).scheduling.is_preemptible, f"{event}: it may not be")
        check(victim.priority < other.priority, f"{event}: its priority is not lower")
        check(victim.active[event.index].state is State.RUNNING, f"{event}: it does not run")
