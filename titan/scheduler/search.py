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
from titan.scheduler.policies import Choice, Policy
from titan.scheduler.runs import Run
from titan.scheduler.shape import Shape, takes
from titan.scheduling import LabelConstraint
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

_NOBODY: Final[frozenset[int]] = frozenset()
# Shapes, and classes of which it is known which shape they have, are let go beyond so many.
_KNOWN_MAX: Final = 100_000


class Search:
    """Looks for places in one fleet."""

    def __init__(self, state: ClusterState, fleet: Fleet) -> None:
        self._state = state
        self._fleet = fleet
        self._shapes: dict[tuple[Resources, tuple[LabelConstraint, ...]], Shape] = {}
        # By class; None: it is looked at worker by worker.
        self._shape_of: dict[int, Shape | None] = {}

    def is_known_full(self, class_id: int) -> bool:
        """Whether it is certain without a look that nobody has room for the class."""
        shape = self._shape_of.get(class_id)
        return shape is not None and shape.full_at == self._fleet.gains_count

    def could_run(self, job_class: JobClass) -> bool:
        """Whether F is not empty."""
        shape = self._find_shape(job_class)
        if shape is None:
            return any(True for _ in self._feasible(job_class))
        return bool(shape.whole) or any(map(shape.members_of, shape.parts))

    def pools_of(self, job_class: JobClass) -> list[Pool] | None:
        """The pools with workers of F; None where F has to be looked at worker by worker."""
        shape = self._find_shape(job_class)
        return None if shape is None else [*shape.whole, *shape.parts]

    def feasible(self, job_class: JobClass) -> list[Worker]:
        """F, by number. Costs a look at each worker that gets tasks."""
        return list(self._feasible(job_class))

    def run(self, job_class: JobClass, policy: Policy) -> Run | None:
        """Places for one task after the other; None where each is to be looked for by `find`."""
        shape = self._find_shape(job_class)
        if shape is None or policy.always_takes_turns:
            return None
        return Run(self._state, self._fleet, shape, policy, is_full=self._is_full(shape))

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
        self._fleet.refresh()
        shape = self._find_shape(job_class)
        if shape is None:
            return self._choose(job_class, policy, excluded, job)
        if self._is_full(shape):
            return None
        if excluded:
            excluded = {number for number in excluded if self._is_in(shape, number)}
        if policy.always_takes_turns:
            return self._next_with_room(shape, excluded)
        return Run(self._state, self._fleet, shape, policy, excluded).next()

    def _find_shape(self, job_class: JobClass) -> Shape | None:
        class_id = job_class.class_id
        # One that is only thought of has no number.
        if class_id and class_id in self._shape_of:
            shape = self._shape_of[class_id]
        else:
            shape = self._new_shape(job_class)
            if class_id:
                self._shape_of[class_id] = shape
        if shape is not None and shape.version != self._fleet.version:
            self._choose_pools(shape, job_class)
        return shape

    def _new_shape(self, job_class: JobClass) -> Shape | None:
        if _is_special(job_class):
            return None
        if len(self._shape_of) >= _KNOWN_MAX:
            self._shape_of.clear()
            self._shapes.clear()
        key = (job_class.demand, job_class.constraints)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(job_class.demand)
        return shape

    def _choose_pools(self, shape: Shape, job_class: JobClass) -> None:
        shape.version = self._fleet.version
        shape.full_at = -1
        shape.whole, shape.parts = [], []
        for pool in matching_pools(self._fleet, job_class.constraints):
            if shape.demand.fits_in(pool.least):
                shape.whole.append(pool)
            elif shape.demand.fits_in(pool.most):
                shape.parts.append(pool)

    def _is_full(self, shape: Shape) -> bool:
        """Whether nobody had room, and whoever gained since has none either."""
        fleet = self._fleet
        if shape.full_at < 0:
            return False
        if shape.full_at == fleet.gains_count:
            return True
        cpus_milli, memory_bytes = fleet.largest_gain(shape.full_at)
        demand = shape.demand
        if demand.cpus_milli <= cpus_milli and demand.memory_bytes <= memory_bytes:
            gained = fleet.gains_since(shape.full_at)
            workers = self._state.workers
            if gained is None or any(
                takes(workers[number], demand) and self._is_in(shape, number) for number in gained
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

    def _next_with_room(self, shape: Shape, excluded: Collection[int]) -> Choice | None:
        """Whose turn it is among those with room. Costs by those without that are passed over."""
        pointer = self._state.round_robin
        for low, high in ((pointer + 1, None), (None, pointer)):
            numbers = [
                _first_with_room(shape, pool, low, high, excluded)
                for pool in (*shape.whole, *shape.parts)
            ]
            found = [number for number in numbers if number]
            if found:
                return Choice(self._state.get_worker(min(found)), RULE_ROUND_ROBIN)
        if not excluded:
            shape.full_at = self._fleet.gains_count
        return None

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


def _first_with_room(
    shape: Shape, pool: Pool, low: int | None, high: int | None, excluded: Collection[int]
) -> int:
    """The lowest number of a member with room between these; 0: there is none."""
    for number in pool.numbers.irange(low, high):
        if number not in excluded and takes(pool.members[number], shape.demand):
            return int(number)
    return 0


def _is_special(job_class: JobClass) -> bool:
    return bool(job_class.on or job_class.exclusive or job_class.affinities or job_class.spread)


def _value(worker: Worker, label: str) -> str:
    return dict(worker.labels).get(label, "")
