"""Reservations: when and where the head of the queue starts at the latest, and who may go before.

EASY backfill (Lifka, "The ANL/IBM SP scheduling system", 1995; Mu'alem and Feitelson, "Utilization,
predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with backfilling",
2001): only the head has a reservation. For each worker the earliest time is found at which it
has room for the head if all that runs there uses up its time limit; the earliest of these is
reserved. There a later task may start only if it ends by then or fits beside the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from titan.model import Resources
from titan.scheduler.class_queue import Place
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState
from titan.state.job_class import JobClass
from titan.state.tables import Hold
from titan.state.worker import Worker

NEVER: Final = 1 << 62


class Release(NamedTuple):
    """What a slot attempt gives back, and when at the latest."""

    end_us: int
    job_id: int
    demand: Resources


def releases(worker: Worker, now_us: int) -> list[Release]:
    """The slot attempts of a worker that end some time, the earliest first.

    Those behind which others wait ahead pass their slots on: each turn takes a time limit more.
    What should have ended is as if it ended now.
    """
    found = []
    for attempt in worker.attempts.values():
        if attempt.ahead or not attempt.limit_ms or attempt.suspended:
            continue
        end_us = attempt.limit_end_us
        here = worker.classes[attempt.job_class.class_id]
        if here.ahead:
            end_us += -(-len(here.ahead) // here.slots) * attempt.limit_ms * 1000
        found.append(Release(max(end_us, now_us), attempt.job_id, attempt.job_class.demand))
    found.sort()
    return found


def earliest_start_us(worker: Worker, job_class: JobClass, now_us: int) -> int:
    """When the worker has room for the class as time limits run out; NEVER if nobody can say."""
    return _earliest(worker, job_class, now_us)[0]


def what_ends(worker: Worker, job_class: JobClass, now_us: int) -> int:
    """The job whose end makes room for the class on that worker at the earliest time; 0: none."""
    return _earliest(worker, job_class, now_us)[1]


def _earliest(worker: Worker, job_class: JobClass, now_us: int) -> tuple[int, int]:
    if worker.admits(job_class):
        return now_us, 0
    slots = sum(not each.ahead for each in worker.attempts.values())
    ending = releases(worker, now_us)
    if job_class.exclusive or worker.exclusive:
        # Somebody is to be alone: nothing may be left.
        if len(ending) < slots or not ending or not job_class.demand.fits_in(worker.capacity):
            return NEVER, 0
        return ending[-1].end_us, ending[-1].job_id
    missing = _missing(worker, job_class.demand)
    for each in ending:
        _give_back(missing, each.demand)
        if all(amount <= 0 for amount in missing.values()):
            return each.end_us, each.job_id
    return NEVER, 0


def closest(workers: Iterable[Worker], job_class: JobClass) -> Worker | None:
    """The worker that lacks least for the class, as a part of what it has; then the lowest number.

    It is kept for a head for which nobody can say when there is room.
    """
    best: Worker | None = None
    # As a fraction, to be compared without a float.
    lack, capacity = 0, 1
    for worker in workers:
        parts = [
            (amount, _capacity(worker, resource))
            for resource, amount in _missing(worker, job_class.demand).items()
            if amount > 0
        ]
        here_lack, here_capacity = 0, 1
        for amount, total in parts:
            if amount * here_capacity > here_lack * max(total, 1):
                here_lack, here_capacity = amount, max(total, 1)
        if best is None or here_lack * capacity < lack * here_capacity:
            best, lack, capacity = worker, here_lack, here_capacity
    return best


class Guard:
    """Keeps later tasks from delaying somebody on one worker."""

    def __init__(
        self, worker: Worker, demand: Resources, start_us: int, now_us: int, *, alone: bool
    ) -> None:
        """`start_us`: when it starts there at the latest, NEVER if nobody can say."""
        self._worker = worker
        self._demand = demand
        self._start_us = start_us
        self._now_us = now_us
        self._alone = alone
        # What is free at the start beside the one that is guarded; made when it is asked for.
        self._beside: dict[str, int] | None = None

    def allows(self, job_class: JobClass) -> bool:
        """Whether a task of that class may start on the worker now."""
        limit_us = job_class.limit_ms * 1000
        if limit_us and self._now_us + limit_us <= self._start_us < NEVER:
            return True
        if self._alone or job_class.exclusive:
            return False
        if self._beside is None:
            self._beside = self._find_beside()
        return all(
            amount <= self._beside.get(resource, 0) for resource, amount in _parts(job_class.demand)
        )

    def allows_again(self, attempt: Attempt) -> bool:
        """Whether one that stands still there may run on: that takes nothing but cpus."""
        limit_us = attempt.limit_ms * 1000
        if limit_us and self._now_us + limit_us <= self._start_us < NEVER:
            return True
        if self._waits_for_standing():
            return True
        if self._beside is None:
            self._beside = self._find_beside()
        return attempt.job_class.demand.cpus_milli <= self._beside["cpus"]

    def placed(self) -> None:
        """Something started on the worker."""
        self._beside = None

    def _waits_for_standing(self) -> bool:
        """Whether what stands still has what is guarded for: each would wait for the other."""
        standing = [each.job_class for each in self._worker.suspended.values()]
        if self._alone or any(each.exclusive for each in standing):
            return True
        for resource, amount in _parts(self._demand):
            if resource != "cpus":
                held = sum(dict(_parts(each.demand)).get(resource, 0) for each in standing)
                if _capacity(self._worker, resource) - held < amount:
                    return True
        return False

    def _find_beside(self) -> dict[str, int]:
        worker = self._worker
        beside = {
            "cpus": worker.free_cpus_milli,
            "memory": worker.free_memory_bytes,
            **worker.free_named,
        }
        given = (
            (
                each.demand
                for each in releases(worker, self._now_us)
                if each.end_us <= self._start_us
            )
            if self._start_us < NEVER
            else (each.job_class.demand for each in worker.attempts.values() if _leaves(each))
        )
        for demand in given:
            for resource, amount in _parts(demand):
                beside[resource] = beside.get(resource, 0) + amount
        for resource, amount in _parts(self._demand):
            beside[resource] = beside.get(resource, 0) - amount
        return beside


class Closed:
    """A worker where no later task may start at all."""

    def allows(self, job_class: JobClass) -> bool:
        """Never."""
        return False

    def allows_again(self, attempt: Attempt) -> bool:
        """Never: those that stand still there go on in their order."""
        return False

    def placed(self) -> None:
        """Nothing can have."""


class _Guarding(Protocol):
    def allows(self, job_class: JobClass) -> bool: ...

    def allows_again(self, attempt: Attempt) -> bool: ...

    def placed(self) -> None: ...


class Guarded(NamedTuple):
    """On a worker nobody behind that place may be in the way of whom the guard is for."""

    place: Place
    guard: _Guarding
    job_id: int = 0
    """The job that the worker is kept for; 0: it is for whoever was served before."""

    def goes_before(self, place: Place, job_id: int) -> bool:
        """Whether a task of that job, which stands there, has to heed it."""
        if not self.job_id:
            return True
        # Who has the shortest limit goes first behind the head, but takes no kept worker by it.
        return job_id != self.job_id and place._replace(limit_ms=0) > self.place


def guard_of_hold(state: ClusterState, worker: Worker, hold: Hold, now_us: int) -> Guard | None:
    """The guard of a worker that is kept for a job; None if the job is gone."""
    job = state.live_jobs.get(hold.job_id)
    if job is None:
        return None
    return Guard(worker, job.demand, NEVER, now_us, alone=job.job_class.exclusive)


def _leaves(attempt: Attempt) -> bool:
    """Whether it is on its way out for the one for whom the worker is kept, and has a slot."""
    return attempt.preempted and not attempt.ahead


def _missing(worker: Worker, demand: Resources) -> dict[str, int]:
    """How much of each resource the worker lacks for it now; negative where it has more.

    Of one that is overfull in cpus or memory these count even where they are not asked for.
    """
    return {
        "cpus": demand.cpus_milli - worker.free_cpus_milli,
        "memory": demand.memory_bytes - worker.free_memory_bytes,
        **{name: count - worker.free_named.get(name, 0) for name, count in demand.named},
    }


def _give_back(missing: dict[str, int], demand: Resources) -> None:
    for resource, amount in _parts(demand):
        if resource in missing:
            missing[resource] -= amount


def _parts(demand: Resources) -> Iterator[tuple[str, int]]:
    if demand.cpus_milli:
        yield "cpus", demand.cpus_milli
    if demand.memory_bytes:
        yield "memory", demand.memory_bytes
    yield from demand.named


def _capacity(worker: Worker, resource: str) -> int:
    if resource == "cpus":
        return worker.capacity.cpus_milli
    if resource == "memory":
        return worker.capacity.memory_bytes
    return dict(worker.capacity.named).get(resource, 0)
