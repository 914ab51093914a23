"""Jobs that name other jobs: what a submit waits for, and near which jobs it is to run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from operator import attrgetter
from typing import Final

from titan.errors import InvalidJob, NotFound
from titan.manager.kernel.commands import NewAffinity, NewJob, NewReference, NewTerms
from titan.model import IndexRange
from titan.queries.selection import JobForgotten, select_job
from titan.scheduling import (
    SAME_INDEX,
    WHOLE_JOB,
    Dependency,
    JobAffinity,
    Scheduling,
)
from titan.state.cluster import ClusterState
from titan.state.job import Job

REFERENCES_MAX: Final = 10_000
# Of one request, so that the manager turns again within a second or so: each task that waits for
# the one of its index is looked up by itself, unless the arrays are the same, and each that has
# ended of an array that others wait for by their tasks.
SAME_INDEX_TASKS_MAX: Final = 200_000
ENDED_TASKS_MAX: Final = 1_000_000
# A search for one task through those that ended passes so many in the time of one look.
_PASSED_BY_SEARCH: Final = 64
_START: Final = attrgetter("start")


def resolve_references(state: ClusterState, jobs: Sequence[NewJob]) -> list[Scheduling]:
    """What the jobs asked for, with numbers in place of names. Raises InvalidJob.

    Refused are unknown and forgotten jobs, tasks that a job does not have, and cycles.
    """
    _check_cycles(jobs)
    resolver = _Resolver(state, jobs)
    return [
        terms.scheduling
        if not (terms.after or terms.affinities)
        else resolver.resolve(place, terms)
        for place, (_, _, terms) in enumerate(jobs)
    ]


class _Resolver:
    """For the jobs of one submit, one by one."""

    def __init__(self, state: ClusterState, jobs: Sequence[NewJob]) -> None:
        self._state = state
        self._jobs = jobs
        self._first = state.next_job_id
        self._prefix = ""
        # What may still be looked at.
        self._same_index_tasks = SAME_INDEX_TASKS_MAX
        self._ended_tasks = ENDED_TASKS_MAX

    def resolve(self, place: int, terms: NewTerms) -> Scheduling:
        """Raises InvalidJob."""
        self._prefix = f"job {place + 1} of {len(self._jobs)}: " if len(self._jobs) > 1 else ""
        if len(terms.after) + len(terms.affinities) > REFERENCES_MAX:
            raise self._wrong(f"it names over {REFERENCES_MAX} jobs; put them in one array")
        after: dict[Dependency, None] = {}
        for each in terms.after:
            job_id, array = self._find(each.job, "wait for")
            if each.index == SAME_INDEX:
                self._check_same_indexes(terms, job_id, array)
            elif each.index != WHOLE_JOB and not _has_index(array, each.index):
                raise self._wrong(f"job {job_id} has no task {job_id}.{each.index} to wait for")
            if each.index != WHOLE_JOB:
                self._count_ended(job_id, is_search=each.index != SAME_INDEX)
            after[Dependency(job_id, each.condition, each.index)] = None
        affinities = {
            JobAffinity(self._find_neighbour(each), each.anti): None for each in terms.affinities
        }
        return terms.scheduling._replace(after=tuple(after), affinities=tuple(affinities))

    def _find_neighbour(self, affinity: NewAffinity) -> int:
        """The number of a job near which, or away from which, tasks are to run."""
        job_id, _ = self._find(affinity.job, "be away from" if affinity.anti else "be near")
        other: Job | None = self._state.jobs.get(job_id)
        if not affinity.anti and other is not None and other.has_ended:
            raise self._wrong(
                f"it is to be near job {job_id}, which has ended: it would never start"
            )
        return job_id

    def _find(self, reference: NewReference, to: str) -> tuple[int, tuple[IndexRange, ...]]:
        """The number of a job that is named, and its tasks."""
        if reference.selector is None:
            if reference.position >= len(self._jobs):
                raise self._wrong(f"it is to {to} job {reference.position} of the request, which "
                                  f"has {len(self._jobs)}")  # fmt: skip
            return self._first + reference.position, self._jobs[reference.position].terms.array
        if reference.selector.indexes:
            raise self._wrong(f"it is to {to} tasks that are chosen by ranges; give one index")
        try:
            job = select_job(self._state, reference.selector)
        except JobForgotten as error:
            raise self._wrong(
                f"it is to {to} job {error.job_id}, which ended and was forgotten: leave it out "
                "if it ended as you wish (`titan show` tells)"
            ) from error
        except (NotFound, InvalidJob) as error:
            raise self._wrong(f"it is to {to} a job that is not there: {error}") from error
        return job.job_id, job.array

    def _check_same_indexes(
        self, terms: NewTerms, other_id: int, other: tuple[IndexRange, ...]
    ) -> None:
        if not terms.array or not other:
            raise self._wrong(
                f"only an array can wait task by task for another: {'it' if other else other_id} "
                "is none"
            )
        if terms.array == other:
            return
        self._same_index_tasks -= sum(len(each.indexes) for each in terms.array)
        if self._same_index_tasks < 0:
            raise self._wrong(
                f"over {SAME_INDEX_TASKS_MAX} tasks of a request can only wait task by task for "
                "an array with the very same indexes"
            )
        for each in terms.array:
            for index in each.indexes:
                if not _has_index(other, index):
                    raise self._wrong(
                        f"job {other_id} has no task {other_id}.{index} for its task of that "
                        "index to wait for"
                    )

    def _count_ended(self, job_id: int, *, is_search: bool) -> None:
        """The submit will look for tasks of that job that ended already."""
        other: Job | None = self._state.jobs.get(job_id)
        if other is None or other.ended is None:
            return
        self._ended_tasks -= len(other.ended) // (_PASSED_BY_SEARCH if is_search else 1)
        if self._ended_tasks < 0:
            raise self._wrong(
                f"the request waits for tasks of arrays of which over {ENDED_TASKS_MAX} ended: "
                "send several requests, or let it wait for whole jobs"
            )

    def _wrong(self, what: str) -> InvalidJob:
        return InvalidJob(self._prefix + what)


def _has_index(array: tuple[IndexRange, ...], index: int) -> bool:
    if not array:
        return index == 0
    # They rise and do not overlap.
    position = bisect_right(array, index, key=_START) - 1
    return position >= 0 and index in array[position].indexes


def _check_cycles(jobs: Sequence[NewJob]) -> None:
    """Only within a request jobs can wait for each other in a circle. Raises InvalidJob."""
    graph = {
        place: [each.job.position for each in terms.after if each.job.selector is None]
        for place, (_, _, terms) in enumerate(jobs)
        if terms.after
    }
    if not graph:
        return
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        places: list[int] = error.args[1]
        names = " -> ".join(
            jobs[place].name if place < len(jobs) else str(place) for place in reversed(places)
        )
        raise InvalidJob(f"these jobs wait for each other in a circle: {names}") from error
