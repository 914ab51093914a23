"""Classes: tasks among which a placement decision cannot tell a difference.

Two pending tasks of the same class wait for the same room, so the scheduler looks at their
class once and not at each of them; and on a worker the one may take the other's place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sortedcontainers import SortedDict

from titan.isolation import needed_constraints
from titan.model import Execution, Resources
from titan.scheduling import JobAffinity, LabelConstraint, Scheduling, constraints_of


class ClassKey(NamedTuple):
    """All that a placement decision reads of a task. New fields go last and have a default."""

    user: str
    priority: int
    demand: Resources
    on: str = ""
    """The name or the id in hexadecimal of the one worker where it may run; empty: anywhere."""
    limit_ms: int = 0
    """How long it may take at most, its grace included; 0: nobody knows."""
    constraints: tuple[LabelConstraint, ...] = ()
    affinities: tuple[JobAffinity, ...] = ()
    spread: str = ""
    exclusive: bool = False
    preemptible: bool = False
    job_id: int = 0
    """Where the class is one job's own, since its tasks look at where the others are; else 0."""
    at_most_once: bool = False


class JobClass:
    """A class, its jobs with pending tasks, and how long its tasks run.

    Changed by the state's apply alone.
    """

    __slots__ = (
        "affinities",
        "at_most_once",
        "class_id",
        "constraints",
        "demand",
        "exclusive",
        "hosts",
        "jobs",
        "key",
        "limit_ms",
        "on",
        "pending_jobs",
        "preemptible",
        "priority",
        "run_us",
        "samples",
        "spread",
        "strays",
        "user",
    )

    def __init__(self, class_id: int, key: ClassKey) -> None:
        self.class_id = class_id
        self.key = key
        # The parts of the key by themselves: a pass reads them often.
        self.user = key.user
        self.priority = key.priority
        self.demand = key.demand
        self.on = key.on
        self.limit_ms = key.limit_ms
        self.constraints = key.constraints
        self.affinities = key.affinities
        self.spread = key.spread
        self.exclusive = key.exclusive
        self.preemptible = key.preemptible
        self.at_most_once = key.at_most_once
        # How many jobs of it are remembered; without any it is forgotten, too.
        self.jobs = 0
        # Attempts of it under way whose job is of another class by now.
        self.strays = 0
        # Jobs with tasks that may start, by id, in the order of their submits; the values say
        # nothing.
        self.pending_jobs: SortedDict[int, None] = SortedDict()
        # The workers, by number, that have slot attempts of it; the values say nothing.
        self.hosts: dict[int, None] = {}
        # A guess at the run time that errs to the long side; meaningful from the first sample.
        self.run_us = 0
        self.samples = 0

    @property
    def looks_at_jobs(self) -> bool:
        """Whether it matters where certain other attempts are."""
        return bool(self.affinities or self.spread)

    def learn_run(self, run_us: int) -> None:
        """One task ran so long. A long one counts at once, short ones by an eighth each."""
        self.run_us = run_us if run_us > self.run_us else self.run_us - (self.run_us - run_us) // 8
        self.samples += 1


def class_key(
    *,
    user: str,
    priority: int,
    demand: Resources,
    on: str,
    time_limit_ms: int,
    grace_ms: int,
    scheduling: Scheduling,
    execution: Execution,
    job_id: int,
) -> ClassKey:
    """The class of a job."""
    return ClassKey(
        user,
        priority,
        demand,
        on,
        time_limit_ms + grace_ms if time_limit_ms else 0,
        (*scheduling.constraints, *needed_constraints(user, execution)),
        scheduling.affinities,
        scheduling.spread,
        scheduling.exclusive,
        scheduling.preemptible,
        job_id if scheduling.affinities or scheduling.spread else 0,
        scheduling.at_most_once,
    )


def class_key_fields(key: ClassKey) -> tuple[Any, ...]:
    """Plain values for `class_key_of`: the last one stands there only where it was asked for."""
    return tuple(key) if key.at_most_once else tuple(key[:-1])


def class_key_of(items: Iterable[Any]) -> ClassKey:
    """From plain values, of which the last ones may be missing."""
    key = ClassKey(*items)
    return key._replace(
        demand=Resources(*key.demand),
        constraints=constraints_of(key.constraints),
        affinities=tuple(JobAffinity(*each) for each in key.affinities),
    )
