"""Where a task of a class goes: what the policies mean, found in a few sorted lists.

Classes that ask for a certain worker, for nobody else there, or for being near or away from jobs
are few: for them every worker in question is looked at, as `policies.py` says it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from titan.model import Resources
from titan.scheduler.constraints import affinities_hold, could_take
from titan.scheduler.fleet import Fleet, Pool, matching_pools
from titan.scheduler.policies import (
    RULE_BEST,
    Choice,
    Policy,
    amount_of,
    asked_resources,
    free_of,
    most_used,
)
from titan.scheduling import LabelConstraint
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

_NOBODY: Final[frozenset[int]] = frozenset()
# Shapes that were not asked for since are let go beyond so many.
_SHAPES_MAX: Final = 10_000


class Shape:
    """What classes have in common that are told apart by no worker: demand and labels."""

    __slots__ = ("amounts", "asked", "demand", "full_at", "parts", "version", "whole")

    def __init__(self, demand: Resources) -> None:
        self.demand = demand
        self.asked = tuple(asked_resources(demand))
        self.amounts = {each: amount_of(demand, each) for each in self.asked}
        # Pools of which each member is large enough, and those of which some are.
        self.whole: list[Pool] = []
        self.parts: list[Pool] = []
        # Of the fleet, when these were chosen.
        self.version = -1
        # How many gains there had been when nobody had room; -1: somebody may have.
        self.full_at = -1


class Search:
    """Looks for places in one fleet."""

    def __init__(self, state: ClusterState, fleet: Fleet) -> None:
        self._state = state
        self._fleet = fleet
        self._shapes: dict[tuple[Resources, tuple[LabelConstraint, ...]], Shape] = {}

    def could_run(self, job_class: JobClass) -> bool:
        """Whether F is not empty."""
        if _is_special(job_class):
            return any(True for _ in self._feasible(job_class))
        shape = self._shape(job_class)
        return bool(shape.whole) or any(_members_of(shape, pool) for pool in shape.parts)

    def pools_of(self, job_class: JobClass) -> list[Pool] | None:
        """The pools with workers of F; None where F has to be looked at worker by worker."""
        if _is_special(job_class):
            return None
        shape = self._shape(job_class)
        return [*shape.whole, *shape.parts]

    def feasible(self, job_class: JobClass) -> list[Worker]:
        """F, by number. Costs a look at each worker that gets tasks."""
        return list(self._feasible(job_class))

    def find(
        self,
        job_class: JobClass,
        policy: Policy,
        excluded: Collection[int] = _NOBODY,
        job: Job | None = None,
    ) -> Choice | None:
        """The worker where a task of it starts now, not one of `excluded`; None: it has to wait.

        `job` is the task's, whose others it may be spread among.
        """
        if _is_special(job_class):
            return self._choose(job_class, policy, excluded, job)
        shape = self._shape(job_class)
        if self._is_full(shape):
            return None
        pointer = self._state.round_robin
        excluded_here = {n for n in excluded if self._is_in(shape, n)} if excluded else _NOBODY
        if policy.always_takes_turns:
            return self._next_with_room(shape, pointer, excluded_here)
        if policy.takes_turns and not excluded_here and self._all_have_room(shape):
            worker = self._next(shape, pointer)
            return Choice(worker, RULE_ROUND_ROBIN) if worker is not None else None
        worker = self._best(shape, fills=policy.fills, excluded=excluded_here)
        if worker is None:
            if not excluded_here:
                shape.full_at = self._fleet.gains_count
            return None
        return Choice(worker, RULE_BEST)

    def _shape(self, job_class: JobClass) -> Shape:
        key = (job_class.demand, job_class.constraints)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _SHAPES_MAX:
                self._shapes.clear()
            shape = self._shapes[key] = Shape(job_class.demand)
        if shape.version != self._fleet.version:
            shape.version = self._fleet.version
            shape.full_at = -1
            shape.whole, shape.parts = [], []
            for pool in matching_pools(self._fleet, job_class.constraints):
                if shape.demand.fits_in(pool.least):
                    shape.whole.append(pool)
                elif shape.demand.fits_in(pool.most):
                    shape.parts.append(pool)
        return shape

    def _is_full(self, shape: Shape) -> bool:
        """Whether nobody had room, and whoever gained since has none either."""
        if shape.full_at < 0:
            return False
        fleet = self._fleet
        if shape.full_at == fleet.gains_count:
            return True
        gained = fleet.gains_since(shape.full_at)
        workers = self._state.workers
        if gained is None or any(
            _takes(workers[number], shape.demand) and self._is_in(shape, number)
            for number in gained
        ):
            shape.full_at = -1
            return False
        shape.full_at = fleet.gains_count
        return True

    def _is_in(self, shape: Shape, number: int) -> bool:
        """Whether the worker is in F."""
        return any(number in pool.members for pool in shape.whole) or any(
            number in pool.members and shape.demand.fits_in(pool.members[number].capacity)
            for pool in shape.parts
        )

    def _all_have_room(self, shape: Shape) -> bool:
        """Whether C is F."""
        for pool in shape.whole:
            for first in shape.asked:
                # The index that a best fit by that resource would take, so that there are few.
                index = pool.index(_order(shape, first))
                if index.by_free[0][0] < shape.amounts[first]:
                    return False
        return all(
            _takes(worker, shape.demand)
            for pool in shape.parts
            for worker in _members_of(shape, pool)
        )

    def _next(self, shape: Shape, pointer: int) -> Worker | None:
        """Whose turn it is where all have room; None where F is empty."""
        behind: list[int] = []
        first: list[int] = []
        for pool in shape.whole:
            numbers = pool.numbers
            at = numbers.bisect_right(pointer)
            if at < len(numbers):
                behind.append(numbers[at])
            first.append(numbers[0])
        for pool in shape.parts:
            here = [each.number for each in _members_of(shape, pool)]
            behind += [number for number in here if number > pointer]
            first += here
        return self._state.get_worker(min(behind or first)) if first else None

    def _next_with_room(
        self, shape: Shape, pointer: int, excluded: Collection[int]
    ) -> Choice | None:
        """Whose turn it is among those with room. Costs by those without that are passed over."""
        pools = (*shape.whole, *shape.parts)
        for low, high in ((pointer + 1, None), (None, pointer)):
            found = [
                number
                for pool in pools
                for number in [self._first_with_room(shape, pool, low, high, excluded)]
                if number
            ]
            if found:
                return Choice(self._state.get_worker(min(found)), RULE_ROUND_ROBIN)
        if not excluded:
            shape.full_at = self._fleet.gains_count
        return None

    def _first_with_room(
        self, shape: Shape, pool: Pool, low: int | None, high: int | None, excluded: Collection[int]
    ) -> int:
        """The lowest number of a member with room between these; 0: there is none."""
        for number in pool.numbers.irange(low, high):
            if number not in excluded and _takes(pool.members[number], shape.demand):
                return int(number)
        return 0

    def _best(self, shape: Shape, *, fills: bool, excluded: Collection[int]) -> Worker | None:
        first = shape.asked[0]
        if len(shape.asked) > 1:
            first = most_used(shape.asked, lambda resource: self._use(shape, resource))
        order = _order(shape, first)
        amounts = [shape.amounts[each] for each in order]
        best: tuple[int, ...] | None = None
        # A member with room is large enough, so that parts of pools need no other look.
        for pool in (*shape.whole, *shape.parts):
            find = _least_free if fills else _most_free
            key = find(pool, order, amounts, excluded)
            if key is not None and (best is None or _is_better(key, best, fills=fills)):
                best = key
        return self._state.get_worker(best[-1]) if best is not None else None

    def _use(self, shape: Shape, resource: str) -> tuple[int, int]:
        """What is used of a resource over F, and how much there is."""
        capacity = free = 0
        for pool in shape.whole:
            capacity += pool.capacity.get(resource, 0)
            free += pool.free.get(resource, 0)
        for pool in shape.parts:
            for worker in _members_of(shape, pool):
                capacity += amount_of(worker.capacity, resource)
                free += free_of(worker, resource)
        return capacity - free, capacity

    def _feasible(self, job_class: JobClass) -> Iterable[Worker]:
        fleet = self._fleet
        workers = fleet.named(job_class.on) if job_class.on else fleet.workers()
        return (each for each in workers if could_take(each, job_class, self._state.live_jobs))

    def _choose(
        self, job_class: JobClass, policy: Policy, excluded: Collection[int], job: Job | None
    ) -> Choice | None:
        feasible = self.feasible(job_class)
        candidates = [
            each
            for each in feasible
            if each.number not in excluded
            and each.admits(job_class)
            and (
                not job_class.affinities or affinities_hold(each, job_class, self._state.live_jobs)
            )
        ]
        if job_class.spread and job is not None and candidates:
            candidates = self._least_used(job_class.spread, job, candidates)
        return policy.choose(feasible, candidates, job_class.demand, self._state.round_robin)

    def _least_used(self, label: str, job: Job, candidates: list[Worker]) -> list[Worker]:
        """Those of the candidates whose value of the label has the fewest of the job's tasks."""
        tasks: dict[str, int] = {}
        for attempt in job.active.values():
            value = _value(self._state.get_worker(attempt.worker), label)
            tasks[value] = tasks.get(value, 0) + 1
        fewest = min(tasks.get(_value(each, label), 0) for each in candidates)
        return [each for each in candidates if tasks.get(_value(each, label), 0) == fewest]


def _is_special(job_class: JobClass) -> bool:
    return bool(job_class.on or job_class.exclusive or job_class.affinities or job_class.spread)


def _takes(worker: Worker, demand: Resources) -> bool:
    return not worker.exclusive and worker.has_room(demand)


def _members_of(shape: Shape, pool: Pool) -> list[Worker]:
    """Those of a pool that are large enough."""
    return [each for each in pool.members.values() if shape.demand.fits_in(each.capacity)]


def _order(shape: Shape, first: str) -> tuple[str, ...]:
    """The resources asked for, that one first."""
    if first == shape.asked[0]:
        return shape.asked
    return (first, *(each for each in shape.asked if each != first))


def _least_free(
    pool: Pool, order: tuple[str, ...], amounts: list[int], excluded: Collection[int]
) -> tuple[int, ...] | None:
    """The member with room that has the least free, as its key in the index."""
    by_free = pool.index(order).by_free
    for key in by_free.irange((amounts[0],)):
        if key[-1] not in excluded and all(
            have >= asked for have, asked in zip(key, amounts, strict=False)
        ):
            found: tuple[int, ...] = key
            return found
    return None


def _most_free(
    pool: Pool, order: tuple[str, ...], amounts: list[int], excluded: Collection[int]
) -> tuple[int, ...] | None:
    """The same with the most free; of those with as much the lowest number."""
    by_free = pool.index(order).by_free
    best: tuple[int, ...] | None = None
    for key in by_free.irange((amounts[0],), reverse=True):
        if best is not None and key[:-1] != best[:-1]:
            break
        if key[-1] not in excluded and all(
            have >= asked for have, asked in zip(key, amounts, strict=False)
        ):
            best = key
    return best


def _is_better(key: tuple[int, ...], best: tuple[int, ...], *, fills: bool) -> bool:
    if fills:
        return key < best
    return (key[:-1], -key[-1]) > (best[:-1], -best[-1])


def _value(worker: Worker, label: str) -> str:
    return dict(worker.labels).get(label, "")
