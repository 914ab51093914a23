"""Preemption: which running tasks make room for one of higher priority.

The fewest that suffice, on the worker where that is the fewest; among as many those that come
first in one total order: lowest priority, started last, highest job and index. None at all
where even all together would not suffice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from titan.model import Resources, State
from titan.state.attempts import Attempt
from titan.state.job import Job
from titan.state.job_class import JobClass
from titan.state.worker import Worker

# So many sets of victims are looked at on a worker before the first that suffices is taken by
# going through them one by one: the fewest are then no longer certain.
SETS_MAX: Final = 5_000


class Victims(NamedTuple):
    """What is stopped on a worker, and for whom."""

    worker: Worker
    attempts: tuple[Attempt, ...]


def rank_victims(
    workers: Iterable[Worker], job_class: JobClass, jobs: Mapping[int, Job], *, suspends: bool
) -> list[Victims]:
    """Victims that each make room for a task of the class, on a worker each, the best first.

    `jobs` are those of the attempts: an update may have given them other priorities.
    """
    ranked = []
    for worker in workers:
        victims = victims_on(worker, job_class, jobs, suspends=suspends)
        if victims is not None:
            orders = [victim_order(each, jobs) for each in victims]
            ranked.append((len(victims), orders, worker.number, Victims(worker, victims)))
    ranked.sort(key=lambda each: each[:3])
    return [victims for *_, victims in ranked]


def victims_on(
    worker: Worker, job_class: JobClass, jobs: Mapping[int, Job], *, suspends: bool
) -> tuple[Attempt, ...] | None:
    """The fewest victims on that worker; None where all together do not suffice."""
    candidates = sorted(
        (
            each
            for each in worker.attempts.values()
            if _may_be_stopped(each, job_class, jobs)
            # What has begun and is not to begin again can stand still and not be put back.
            and (suspends or not each.job_class.at_most_once)
        ),
        key=lambda each: victim_order(each, jobs),
    )
    if job_class.exclusive or worker.exclusive:
        slots = [each for each in worker.attempts.values() if not each.ahead]
        alone = len(slots) == len(candidates) == len(worker.attempts) and not suspends
        return tuple(candidates) if alone and candidates else None
    missing = _missing(worker, job_class.demand)
    # What is on its way out already will have given its room back.
    for each in worker.attempts.values():
        if each.preempted and not each.ahead:
            _give(missing, each.job_class.demand)
    if not missing:
        return None
    fewest = _lower_bound(candidates, missing, suspends=suspends)
    if fewest is None:
        return None
    tried = 0
    for size in range(fewest, len(candidates) + 1):
        for chosen in combinations(candidates, size):
            if _suffices(chosen, missing, suspends=suspends):
                return chosen
            tried += 1
            if tried > SETS_MAX:
                return _greedily(candidates, missing, suspends=suspends)
    return None


def victim_order(attempt: Attempt, jobs: Mapping[int, Job]) -> tuple[int, ...]:
    """Who goes first: the lowest."""
    return jobs[attempt.job_id].priority, -attempt.since_us, -attempt.job_id, -attempt.index


def _may_be_stopped(attempt: Attempt, job_class: JobClass, jobs: Mapping[int, Job]) -> bool:
    return (
        attempt.job_class.preemptible
        and jobs[attempt.job_id].priority < job_class.priority
        and attempt.state is State.RUNNING
        and not attempt.ahead
        and not attempt.suspended
        and not attempt.is_given_up
    )


def _missing(worker: Worker, demand: Resources) -> dict[str, int]:
    """What the worker lacks for it; nothing where it lacks nothing."""
    lacks = {
        "cpus": demand.cpus_milli - worker.free_cpus_milli,
        "memory": demand.memory_bytes - worker.free_memory_bytes,
        **{name: count - worker.free_named.get(name, 0) for name, count in demand.named},
    }
    return {resource: amount for resource, amount in lacks.items() if amount > 0}


def _given(attempt: Attempt, resource: str, *, suspends: bool) -> int:
    """What the end of it gives back; one that only stands still gives its cpus."""
    demand = attempt.job_class.demand
    if resource == "cpus":
        return demand.cpus_milli
    if suspends:
        return 0
    if resource == "memory":
        return demand.memory_bytes
    return dict(demand.named).get(resource, 0)


def _lower_bound(
    candidates: Sequence[Attempt], missing: dict[str, int], *, suspends: bool
) -> int | None:
    """At least so many are needed, by the largest of each resource; None: all are too few."""
    fewest = 1
    for resource, amount in missing.items():
        given = sorted(
            (_given(each, resource, suspends=suspends) for each in candidates), reverse=True
        )
        taken = total = 0
        while total < amount:
            if taken == len(given):
                return None
            total += given[taken]
            taken += 1
        fewest = max(fewest, taken)
    return fewest


def _suffices(chosen: Iterable[Attempt], missing: dict[str, int], *, suspends: bool) -> bool:
    chosen = tuple(chosen)
    return all(
        sum(_given(each, resource, suspends=suspends) for each in chosen) >= amount
        for resource, amount in missing.items()
    )


def _greedily(
    candidates: Sequence[Attempt], missing: dict[str, int], *, suspends: bool
) -> tuple[Attempt, ...] | None:
    """All candidates less each, the last first, without which the others still suffice."""
    chosen = list(candidates)
    if not _suffices(chosen, missing, suspends=suspends):
        return None
    for each in reversed(candidates):
        rest = [other for other in chosen if other is not each]
        if _suffices(rest, missing, suspends=suspends):
            chosen = rest
    return tuple(chosen)


def _give(missing: dict[str, int], demand: Resources) -> None:
    for resource, amount in (
        ("cpus", demand.cpus_milli),
        ("memory", demand.memory_bytes),
        *demand.named,
    ):
        if resource in missing:
            missing[resource] -= amount
            if missing[resource] <= 0:
                del missing[resource]
