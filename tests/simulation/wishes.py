"""What users and administrators wish beside tasks that run: when, where, how often, and not now.

A part of a run's plan (`plan.py`), as plain data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from titan.scheduling import DependencyCondition

ZONES = ("a", "b")
# Longer than any run, so that it takes a limit back as none does.
LONGEST_LIMIT_MS = 400_000
NEW_LIMITS_MS = (0, 100, 700, 5_000, 20_000, LONGEST_LIMIT_MS)


class Change(Enum):
    """What somebody does to a job while it waits or runs."""

    HOLD = "hold"
    SUSPEND = "suspend"
    PRIORITY = "another priority"
    TIME_LIMIT = "another time limit"
    REQUEUE = "requeue"


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """A change of a job (modulo their number); a hold or suspension ends so much later.

    `detail` is the priority, or which time limit.
    """

    at_ms: int
    change: Change
    job: int
    for_ms: int
    detail: int


@dataclass(frozen=True, kw_only=True)
class AfterPlan:
    """It waits for an earlier job, by its number in the plan, or for that one's same tasks."""

    job: int
    condition: DependencyCondition
    is_same_index: bool


@dataclass(frozen=True, kw_only=True)
class SchedulingPlan:
    """When and where a job's tasks may run; begin and deadline count from its submit."""

    is_held: bool = False
    retries: int = 0
    retry_on: tuple[int, ...] = ()
    array_limit: int = 0
    max_fails: int | None = None
    is_exclusive: bool = False
    is_preemptible: bool = False
    at_most_once: bool = False
    zone: str = ""
    """Only workers with that label."""
    after: tuple[AfterPlan, ...] = ()
    begin_ms: int = 0
    deadline_ms: int = 0

    @property
    def may_be_cut_short(self) -> bool:
        """Whether tasks may be cancelled by it."""
        return bool(self.after or self.deadline_ms) or self.max_fails is not None


def random_scheduling(random: Random, number: int, tasks: list[int]) -> SchedulingPlan:
    """For the job of that number; `tasks` are how many each has, 0 for a plain one."""
    own = tasks[number]
    retries = random.choice((0, 0, 1, 2))
    begin_ms = random.choice((0, 0, 0, 500, 15_000))
    in_time_ms = random.choice((0, 0, 0, 3_000, 40_000))
    return SchedulingPlan(
        is_held=random.random() < 0.1,
        retries=retries,
        retry_on=random.choice(((), (), (3,))) if retries else (),
        array_limit=random.choice((0, 0, 1, 4)) if own else 0,
        max_fails=random.choice((None, None, 0, 2)) if own else None,
        is_exclusive=random.random() < 0.1,
        is_preemptible=random.random() < 0.7,
        after=_random_after(random, number, tasks) if number and random.random() < 0.4 else (),
        begin_ms=begin_ms,
        deadline_ms=begin_ms + in_time_ms if in_time_ms else 0,
    )


def _random_after(random: Random, number: int, tasks: list[int]) -> tuple[AfterPlan, ...]:
    first = random.randrange(number)
    others = {first, random.choice((first, random.randrange(number)))}
    conditions = (DependencyCondition.OK, *DependencyCondition)
    return tuple(
        AfterPlan(
            job=other,
            condition=random.choice(conditions),
            is_same_index=0 < tasks[number] <= tasks[other] and random.random() < 0.7,
        )
        for other in sorted(others)
    )


def random_change(random: Random, last_ms: int) -> ChangePlan:
    """Up to that time."""
    return ChangePlan(
        at_ms=random.randint(0, last_ms),
        change=random.choice((*Change, Change.SUSPEND, Change.TIME_LIMIT)),
        job=random.randint(0, 8),
        for_ms=random.choice((0, 20, 500, 3_000, 20_000)),
        detail=random.randint(0, 40),
    )
