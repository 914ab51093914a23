"""When and where a job's tasks may run, beside resources, priority and time limit. Pure data.

`Scheduling` stands in the event of the submit; what of it a placement decision reads is in
the class of the job (`state/job_class.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

# Of a dependency: all of the job, or of each task the one of the same index.
WHOLE_JOB: Final = -1
SAME_INDEX: Final = -2


# The names of the orders of the queue, of the policies of placement and of the ways to make room
# for a higher priority. Their numbers in the log are their places here, from 1.
ORDERS: Final = ("easy", "fcfs", "skip", "easy-sjbf")
PLACEMENTS: Final = ("round-robin-then-bin-packing", "round-robin", "bin-packing", "spread")
PREEMPTIONS: Final = ("off", "requeue", "suspend")


class DependencyCondition(IntEnum):
    """How what a job waits for has to have ended."""

    OK = 1
    """COMPLETED."""
    ANY = 2
    FAILED = 3


class Dependency(NamedTuple):
    """What has to have happened before tasks may start."""

    job_id: int
    condition: DependencyCondition = DependencyCondition.OK
    index: int = WHOLE_JOB  # type: ignore[assignment]  # hides tuple.index
    """One task of it, or WHOLE_JOB, or SAME_INDEX."""


class LabelConstraint(NamedTuple):
    """A worker's label has one of these values, or none of them; without it it has none."""

    label: str
    values: tuple[str, ...]
    negated: bool = False


class JobAffinity(NamedTuple):
    """Only where attempts of that job are, or with `anti` where none are.

    Its own job: the first task may go anywhere, the others to the same worker.
    """

    job_id: int
    anti: bool = False


class Scheduling(NamedTuple):
    """What was asked for. New fields go last and have a default, here and in the log alike."""

    held: bool = False
    after: tuple[Dependency, ...] = ()
    retries: int = 0
    """How often a task that FAILED is tried again."""
    retry_on: tuple[int, ...] = ()
    """Only after these exit codes; empty: however it failed."""
    array_limit: int = 0
    """At most so many tasks are under way at once; 0: not limited."""
    max_fails: int = -1
    """Once more tasks than that FAILED the others are cancelled; -1: never."""
    constraints: tuple[LabelConstraint, ...] = ()
    affinities: tuple[JobAffinity, ...] = ()
    spread: str = ""
    """The label over whose values the tasks are spread; empty: they are not."""
    exclusive: bool = False
    preemptible: bool = False
    begin_us: int = 0
    deadline_us: int = 0
    at_most_once: bool = False
    """A task that may have begun is never given out again, whatever became of it."""


PLAIN_SCHEDULING: Final = Scheduling()
"""Nothing was asked for."""


def scheduling_fields(scheduling: Scheduling) -> tuple[Any, ...]:
    """Plain values for `scheduling_of`: what was not asked for takes no room, now or ever."""
    if scheduling == PLAIN_SCHEDULING:
        return ()
    asked = [given != default for given, default in zip(scheduling, PLAIN_SCHEDULING, strict=True)]
    return tuple(scheduling[: len(asked) - asked[::-1].index(True)])


def scheduling_of(fields: Sequence[Any]) -> Scheduling:
    """From plain values, of which the last ones may be missing. Raises ValueError, TypeError."""
    if not fields:
        return PLAIN_SCHEDULING
    given = Scheduling(*fields)
    return given._replace(
        after=tuple(
            Dependency(job_id, DependencyCondition(condition), index)
            for job_id, condition, index in given.after
        ),
        retry_on=tuple(given.retry_on),
        constraints=constraints_of(given.constraints),
        affinities=tuple(JobAffinity(*each) for each in given.affinities),
    )


def constraints_of(items: Sequence[Sequence[Any]]) -> tuple[LabelConstraint, ...]:
    """Constraints from plain values."""
    return tuple(LabelConstraint(label, tuple(values), no) for label, values, no in items)
