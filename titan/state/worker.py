"""A worker as the manager's log knows it: capacity, what it holds, and who waits behind whom."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from titan.events import WorkerRegistered
from titan.model import Resources, State, WorkerState
from titan.state.attempts import Attempt
from titan.state.job_class import JobClass
from titan.state.usage import Usage

TaskKey = tuple[int, int]

_SCHEDULED: Final = State.SCHEDULED
_HEALTHY: Final = WorkerState.HEALTHY


class ClassOnWorker:
    """The attempts of one class on one worker: `slots` of them may run at once.

    Slot attempts that have not started are in `unstarted`, those without a slot in
    `ahead`; both oldest first. Running ones are in neither.
    """

    __slots__ = ("ahead", "slots", "unstarted")

    def __init__(self) -> None:
        self.slots = 0
        self.unstarted: dict[TaskKey, Attempt] = {}
        self.ahead: OrderedDict[TaskKey, Attempt] = OrderedDict()


class Drain(NamedTuple):
    """Why a worker gets no new tasks, and by whose word."""

    reason: str
    user: str


class Worker:
    """One worker. Changed by the state's apply alone."""

    __slots__ = (
        "address",
        "attempts",
        "boot_id",
        "capacity",
        "classes",
        "drain",
        "exclusive",
        "fault",
        "free_cpus_milli",
        "free_memory_bytes",
        "free_named",
        "instance",
        "is_stopping",
        "labels",
        "last_heard_us",
        "limited",
        "limits",
        "name",
        "number",
        "output_directory",
        "preemptible",
        "state",
        "suspended",
        "usage",
        "version",
        "worker_id",
    )

    def __init__(self, event: WorkerRegistered, usage: Usage | None = None) -> None:
        self.usage = usage if usage is not None else Usage()
        self.number = event.worker
        self.worker_id = event.worker_id
        self.state = WorkerState.HEALTHY
        self.last_heard_us = 0
        # An administrator's; it outlives restarts, and even a leave.
        self.drain: Drain | None = None
        # Whether the worker itself takes no new tasks, to end once nothing is left.
        self.is_stopping = False
        # What it says itself that keeps it from taking tasks, while it is UNHEALTHY for that.
        self.fault = ""
        # By task, in the order of assignment.
        self.attempts: dict[TaskKey, Attempt] = {}
        self.classes: dict[int, ClassOnWorker] = {}
        # How many slot attempts want it for themselves, have a time limit, may be preempted; and
        # those that are suspended.
        self.exclusive = 0
        self.limited = 0
        self.preemptible = 0
        self.suspended: dict[TaskKey, Attempt] = {}
        self.capacity = Resources()
        self.free_cpus_milli = 0
        self.free_memory_bytes = 0
        self.free_named: dict[str, int] = {}
        self.register(event)

    def register(self, event: WorkerRegistered) -> None:
        """Takes over what the worker says of itself; what it holds stays promised."""
        used = self.used
        self.instance = event.instance
        self.boot_id = event.boot_id
        self.name = event.name
        self.address = event.address
        self.labels = event.labels
        self.version = event.version
        self.output_directory = event.output_directory
        self.limits = event.limits
        self.capacity = Resources(event.cpus_milli, event.memory_bytes, event.named)
        self.free_cpus_milli = event.cpus_milli - used.cpus_milli
        self.free_memory_bytes = event.memory_bytes - used.memory_bytes
        self.free_named = dict(self.capacity.minus(used).named)
        self.usage.touched[self.number] = None

    @property
    def free(self) -> Resources:
        """What is promised to nobody; negative where the worker came back smaller."""
        return Resources(
            self.free_cpus_milli,
            self.free_memory_bytes,
            tuple(sorted((name, count) for name, count in self.free_named.items() if count)),
        )

    @property
    def used(self) -> Resources:
        """What slot attempts were promised."""
        return self.capacity.minus(self.free)

    @property
    def is_draining(self) -> bool:
        """Whether it gets no new tasks."""
        return self.is_stopping or self.drain is not None

    @property
    def takes_tasks(self) -> bool:
        """Whether tasks may be assigned to it, as far as they fit."""
        return self.state is _HEALTHY and not self.is_stopping and self.drain is None

    @property
    def is_overfull(self) -> bool:
        """Whether more is promised here than there is: it came back smaller."""
        return (
            self.free_cpus_milli < 0
            or self.free_memory_bytes < 0
            or any(count < 0 for count in self.free_named.values())
        )

    def may_run(self, job_class: JobClass) -> bool:
        """Whether it is the worker that the class asks for, if it asks for one."""
        on = job_class.on
        return not on or on in (self.name, self.worker_id.hex())

    def has_room(self, demand: Resources) -> bool:
        """Whether so much is free now."""
        if demand.cpus_milli > self.free_cpus_milli or demand.memory_bytes > self.free_memory_bytes:
            return False
        if not demand.named:
            return True
        free = self.free_named
        return all(count <= free.get(name, 0) for name, count in demand.named)

    def admits(self, job_class: JobClass) -> bool:
        """Whether a slot for it is free now, and nobody wants to be alone here."""
        if self.exclusive or (job_class.exclusive and self.attempts):
            return False
        return self.has_room(job_class.demand)

    def touch(self) -> None:
        """Something changed that a placement decision may read."""
        self.usage.touched[self.number] = None

    def add(self, attempt: Attempt) -> None:
        """An attempt comes here. A slot attempt takes its room."""
        job_class = attempt.job_class
        key = (attempt.job_id, attempt.index)
        self.attempts[key] = attempt
        here = self.classes.get(job_class.class_id)
        if here is None:
            here = self.classes[job_class.class_id] = ClassOnWorker()
            job_class.hosts[self.number] = None
        if attempt.ahead:
            if not here.ahead:
                self._take_cpus(job_class, self._standing(job_class))
            here.ahead[key] = attempt
            self.touch()
            return
        here.slots += 1
        self._take(job_class, 1)
        self._count_limited(attempt, 1)
        if attempt.state is _SCHEDULED:
            here.unstarted[key] = attempt

    def start(self, attempt: Attempt) -> None:
        """It runs now. One without a slot swaps with the oldest slot attempt that does not run.

        With no such attempt it takes room of its own: what runs, runs, even where the
        worker should not have started it.
        """
        job_class = attempt.job_class
        here = self.classes[job_class.class_id]
        key = (attempt.job_id, attempt.index)
        if not attempt.ahead:
            del here.unstarted[key]
            return
        del here.ahead[key]
        attempt.ahead = False
        self._count_limited(attempt, 1)
        if not here.unstarted:
            here.slots += 1
            self._take(job_class, 1)
            self._ahead_left(here, job_class)
            return
        other_key = next(iter(here.unstarted))
        other = here.unstarted.pop(other_key)
        other.ahead = True
        self._count_limited(other, -1)
        here.ahead[other_key] = other
        here.ahead.move_to_end(other_key, last=False)

    def remove(self, attempt: Attempt) -> None:
        """It is gone. Its slot passes to the oldest one ahead, else the room is free."""
        job_class = attempt.job_class
        key = (attempt.job_id, attempt.index)
        del self.attempts[key]
        here = self.classes[job_class.class_id]
        if attempt.ahead:
            del here.ahead[key]
            self._ahead_left(here, job_class)
            self.touch()
            return
        if attempt.suspended:
            # It has its cpus again, to pass them on or to give them back.
            self.resume(attempt)
        here.unstarted.pop(key, None)
        self._count_limited(attempt, -1)
        if here.ahead:
            next_key, following = here.ahead.popitem(last=False)
            following.ahead = False
            here.unstarted[next_key] = following
            self._count_limited(following, 1)
            self._ahead_left(here, job_class)
            return
        here.slots -= 1
        self._take(job_class, -1)
        if not here.slots:
            del self.classes[job_class.class_id]
            del job_class.hosts[self.number]

    def count_held(self) -> None:
        """Counts anew what `add` and the like count one by one, after a snapshot gave the rest."""
        usage = self.usage
        for key, attempt in self.attempts.items():
            job_class = attempt.job_class
            if attempt.ahead:
                continue
            self.exclusive += job_class.exclusive
            self.limited += attempt.limit_ms > 0
            self.preemptible += job_class.preemptible
            if attempt.suspended:
                self.suspended[key] = attempt
            if not attempt.suspended or self.classes[job_class.class_id].ahead:
                usage.add_cpus(job_class.user, job_class.demand.cpus_milli)

    def change_limit(self, attempt: Attempt, limit_ms: int) -> None:
        """It has another time limit from now on."""
        if not attempt.ahead:
            self._count_limited(attempt, -1)
        attempt.limit_changed = attempt.limit_changed or limit_ms != attempt.limit_ms
        attempt.limit_ms = limit_ms
        if not attempt.ahead:
            self._count_limited(attempt, 1)
        self.touch()

    def suspend(self, attempt: Attempt) -> None:
        """It stands still: its cpus are free for others, its memory and devices are not.

        Its cpus are not either while somebody waits ahead behind it, to whom they go at its end.
        """
        attempt.suspended = attempt.was_suspended = True
        self.suspended[attempt.job_id, attempt.index] = attempt
        self._give_way(attempt.job_class, -1)

    def resume(self, attempt: Attempt) -> None:
        """It runs on, with its cpus."""
        attempt.suspended = False
        del self.suspended[attempt.job_id, attempt.index]
        self._give_way(attempt.job_class, 1)

    def _give_way(self, job_class: JobClass, times: int) -> None:
        self._take_cpus(job_class, 0 if self.classes[job_class.class_id].ahead else times)

    def _standing(self, job_class: JobClass) -> int:
        """How many of its attempts are suspended here."""
        return sum(each.job_class is job_class for each in self.suspended.values())

    def _ahead_left(self, here: ClassOnWorker, job_class: JobClass) -> None:
        """One has left those ahead: with the last the cpus of what stands still are free."""
        if self.suspended and not here.ahead:
            self._take_cpus(job_class, -self._standing(job_class))

    def _take(self, job_class: JobClass, times: int) -> None:
        self._take_cpus(job_class, times)
        _, memory_bytes, named = job_class.demand
        self.free_memory_bytes -= times * memory_bytes
        for name, count in named:
            self.free_named[name] = self.free_named.get(name, 0) - times * count
        if job_class.exclusive:
            self.exclusive += times
        if job_class.preemptible:
            self.preemptible += times

    def _count_limited(self, attempt: Attempt, times: int) -> None:
        """A slot attempt came or went: when something ends here may be another time."""
        if attempt.limit_ms:
            self.limited += times
            self.touch()

    def _take_cpus(self, job_class: JobClass, times: int) -> None:
        cpus_milli = times * job_class.demand.cpus_milli
        self.free_cpus_milli -= cpus_milli
        usage = self.usage
        usage.add_cpus(job_class.user, cpus_milli)
        usage.touched[self.number] = None
